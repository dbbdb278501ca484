"""How vLLM servers of this machine are started: commands, ports, GPUs."""

import json
import os
import socket
import sys

from pipeline.config.engine import CACHE_BLOCK, ServerSettings
from pipeline.core.errors import ConfigError
from pipeline.core.ranks import GPUS, default_device, processes_here
from pipeline.engines.keeper import ServerPlan
from pipeline.engines.starting import weights_bytes
from pipeline.engines.vllm_needs import LATENT_OFF, kernels_left_out, token_bytes, unsaid


def server_plans(
    settings: ServerSettings,
    model: str,
    device: str | None,
    host: str = "127.0.0.1",
    first_port: int | None = None,
    taken: int | None = None,
) -> list[ServerPlan]:
    """Of the servers on this machine that `settings` ask for, each on the checkpoint `model`.

    Without `first_port` they get ports that are free; `taken` GPUs are others' (default: one of each of this run's
    processes). Raises ConfigError where there are fewer GPUs than they need.
    """
    cpu = (device or default_device()) == "cpu"
    count, each = settings.servers, settings.gpus_per_server
    taken = processes_here() if taken is None else taken
    cards = [""] * count if cpu else server_gpus(count, each, taken, os.environ.get(GPUS, ""))
    plans = []
    for number in range(count):
        port = _free_port(host) if first_port is None else first_port + number
        command = _command(settings, model, host, port, cpu)
        environment = {"CUDA_VISIBLE_DEVICES": cards[number], "VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"}
        environment[LATENT_OFF] = str(int(not settings.latent_cache))
        if cpu:
            cores = max(1, len(os.sched_getaffinity(0)) // count)
            threads = os.environ.get("OMP_NUM_THREADS") or str(cores)
            environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": threads}
        plans.append(ServerPlan(f"http://{host}:{port}", command, environment, weights_bytes(model)))
    return plans


def server_gpus(count: int, each: int, taken: int, visible: str) -> list[str]:
    """CUDA_VISIBLE_DEVICES of `count` servers with `each` GPUs, after the first `taken`; `visible` is what the run may
    use, '' for all. Raises ConfigError where that is fewer."""
    needed = taken + count * each
    cards = visible.split(",") if visible else [str(number) for number in range(needed)]
    if len(cards) < needed:
        raise ConfigError(
            f"engine.servers={count} with {each} GPUs each, after {taken} for training, need {needed} GPUs, and "
            f"CUDA_VISIBLE_DEVICES={visible} shows {len(cards)}. Start fewer servers or processes."
        )
    return [",".join(cards[first : first + each]) for first in range(taken, needed, each)]


def _command(settings: ServerSettings, model: str, host: str, port: int, cpu: bool) -> list[str]:
    options = {
        "model": model,
        "host": host,
        "port": port,
        "dtype": settings.dtype,
        "max-model-len": settings.max_model_len,
        "max-num-seqs": settings.max_sequences,
        "tensor-parallel-size": settings.gpus_per_server if not cpu else 1,
        "logprobs-mode": "processed_logprobs",
        "generation-config": "vllm",
        "load-format": "safetensors",  # never a pickle
        "worker-extension-cls": "pipeline.engines.vllm_folder.Extension",
        "weight-transfer-config": json.dumps({"backend": "ladder_folder"}),
    }
    flags = ["--enable-scale-out", "--disable-uvicorn-access-log"]
    if cpu:
        options["kv-cache-memory-bytes"] = settings.cache_bytes(
            token_bytes(model, settings.dtype, settings.latent_cache)
        )
        options["block-size"] = CACHE_BLOCK
        # Prompts that are read in pieces end a CPU server as soon as a request brings a seed (vLLM 0.32).
        options["max-num-batched-tokens"] = max(settings.max_model_len, 8192)
        flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
        if left_out := kernels_left_out(model):
            options["compilation-config"] = json.dumps({"custom_ops": left_out})
    else:
        options["gpu-memory-utilization"] = settings.server_gpu_memory
    if overrides := unsaid(model):
        options["hf-overrides"] = json.dumps(overrides)
    spelled = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *spelled, *flags]


def _free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]
