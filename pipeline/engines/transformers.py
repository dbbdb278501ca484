"""Rollouts by PyTorch and transformers alone, for machines where vLLM cannot be installed."""

import functools
import logging
from collections.abc import Callable

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from pipeline.config.engine import Sampling, TransformersSettings
from pipeline.core.buffers import kept_tensors
from pipeline.core.causal_lm import load_causal_lm, multi_token_modules
from pipeline.core.console import LOGGER
from pipeline.core.ranks import default_device
from pipeline.core.routing import main_routers, recording
from pipeline.core.watchdog import beat
from pipeline.engines.decoder import DECODED, Decoder, not_decoded
from pipeline.engines.drawing import drawn_from
from pipeline.engines.engine import Engine, Finished, RawCompletion
from pipeline.engines.speculating import write_with_drafts
from pipeline.engines.weights import running_weights
from pipeline.engines.writing import write

Done = Callable[[int, RawCompletion], None]
"""Called with the number of a row, which answers prompt `row // n`, and its completion."""


class TransformersEngine(Engine):
    """A second copy of the model that writes left-padded batches of at most `max_sequences` rows.

    Models that a `Decoder` computes are written with it, those with a multi-token prediction module with its drafts
    where `mtp_drafts` says so. All others go through `generate`, several times slower.
    """

    def __init__(self, settings: TransformersSettings, model, tokenizer, seed: int, adapter_rank=None, device=None):
        super().__init__(settings, model, tokenizer, seed, adapter_rank, device)
        self._device = torch.device(device or default_device())
        self._model = self._open(self.model_path)
        self._routers = main_routers(self._model)
        self._decoder = None
        self._drafts = bool(settings.mtp_drafts and multi_token_modules(self._model))
        other = not_decoded(self._model)
        if other and not self._drafts:
            _say_slow(other)
        elif not other:
            self._decoder = Decoder(self._model, settings.max_model_len)
        pad = self.tokenizer.pad_token_id
        self._pad_id = min(self.end_ids) if pad is None else pad

    def _open(self, folder: str):
        model = load_causal_lm(
            folder, dtype=getattr(torch, self.settings.dtype), use_safetensors=True, trust_remote_code=False
        )
        model.generation_config = GenerationConfig()  # `generate` fills what a request leaves open from the model's own
        return model.to(self._device).eval()

    def _generate(self, prompts: list[list[int]], n: int, sampling: Sampling, finished: Finished) -> None:
        groups: dict[int, dict[int, RawCompletion]] = {}

        def done(row: int, completion: RawCompletion) -> None:
            group = groups.setdefault(row // n, {})
            group[row] = completion
            if len(group) == n:
                del groups[row // n]
                finished(row // n, [group[one] for one in sorted(group)])

        if self._decoder is None and not self._drafts:
            self._generate_slowly(prompts, n, sampling, done)
            return
        generator = torch.Generator(self._device).manual_seed(sampling.seed)
        for rows in self._batches(len(prompts) * n):
            asked = range(rows[0] // n, rows[-1] // n + 1)
            counts = [min(rows.stop, (place + 1) * n) - max(rows.start, place * n) for place in asked]
            some = [prompts[place] for place in asked]
            ends = sorted(self.end_ids)
            if self._drafts:
                written = write_with_drafts(self._model, some, counts, sampling, ends, generator, self.stats)
            else:
                written = write(self._decoder, some, counts, sampling, ends, generator)
            for row, completion in written:
                done(rows.start + row, completion)

    def _batches(self, rows: int) -> list[range]:
        size = self.settings.max_sequences
        return [range(first, min(rows, first + size)) for first in range(0, rows, size)]

    @torch.no_grad()
    def _generate_slowly(self, prompts: list[list[int]], n: int, sampling: Sampling, done: Done) -> None:
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(sampling.seed)
            for rows in self._batches(len(prompts) * n):
                written = self._batch([prompts[row // n] for row in rows], sampling)
                for row, completion in zip(rows, written, strict=True):
                    done(row, completion)

    def _batch(self, rows: list[list[int]], sampling: Sampling) -> list[RawCompletion]:
        width = max(map(len, rows))
        pad = self._pad_id
        input_ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in rows], device=self._device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in rows], device=self._device)
        recorder = _SampledDistribution(sampling)
        told = self._routers if self._tell_experts else []
        with recording(told) as recorded:
            output = self._model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                logits_processor=LogitsProcessorList([recorder]),
                generation_config=GenerationConfig(
                    max_new_tokens=sampling.max_tokens,
                    do_sample=sampling.temperature > 0,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    eos_token_id=sorted(self.end_ids),
                    pad_token_id=pad,
                ),
            )
        logprobs = recorder.finish(output)
        experts = recorded.of(len(rows)) if told else None
        completions = []
        for row, (tokens, scores) in enumerate(zip(output[:, width:].tolist(), logprobs.tolist(), strict=True)):
            end = next((i + 1 for i, token in enumerate(tokens) if token in self.end_ids), len(tokens))
            # The last token is never read; a copy, since a view would keep the batch.
            chosen = None if experts is None else experts[row, width - len(rows[row]) : width + end - 1].clone()
            completions.append(RawCompletion(tokens[:end], scores[:end] if sampling.logprobs else None, None, chosen))
        return completions

    @torch.no_grad()
    def _sync(self, model) -> None:
        self._copy(running_weights(model))

    @torch.no_grad()
    def _load(self, folder: str) -> None:
        self._copy(running_weights(self._open(folder)))

    def _copy(self, weights: dict[str, torch.Tensor]) -> None:
        own = kept_tensors(self._model)
        if own.keys() != weights.keys():
            odd = sorted(own.keys() ^ weights.keys())[:5]
            raise ValueError(f"the weights to take over and the engine's differ in their names, among them {odd}")
        for name, tensor in weights.items():
            own[name].copy_(tensor)

    def _close(self) -> None:
        self._model = self._decoder = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class _SampledDistribution(LogitsProcessor):
    """Applies temperature and top-p, and keeps the log-probability of the token that was then drawn.

    The draw happens after the processor returns, so the token is read from the next call's `input_ids`, and the last
    one from the finished sequences. One (batch, vocabulary) tensor is kept, however long the completions.
    """

    def __init__(self, sampling: Sampling):
        self._sampling = sampling
        self._pending: torch.Tensor | None = None
        self._columns: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        beat()
        self._take(input_ids[:, -1])
        scores = drawn_from(scores, self._sampling)
        self._pending = scores.log_softmax(-1)
        return scores

    def finish(self, sequences: torch.LongTensor) -> torch.Tensor:
        """Log-probabilities of the drawn tokens: (batch, new tokens), meaningless after a row's end token."""
        self._take(sequences[:, -1])
        return torch.stack(self._columns, dim=1)

    def _take(self, drawn: torch.LongTensor) -> None:
        if self._pending is not None:
            self._columns.append(self._pending.gather(1, drawn[:, None])[:, 0])


@functools.cache
def _say_slow(other: str) -> None:
    """Once a process for each kind of model: engines are opened again and again."""
    logging.getLogger(LOGGER).warning(
        "The engine 'transformers' writes this model with `generate`, several times slower than %s: %s.",
        ", ".join(name.removesuffix("ForCausalLM") for name in DECODED),
        other,
    )
