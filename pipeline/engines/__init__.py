"""Rollouts: one interface over the engines that write completions, used by RL, data sampling and evaluation alike.

    with open_engine(EngineSettings(max_model_len=1024), "runs/pocket/r1_zero/checkpoint") as engine:
        groups = engine.generate(["What is 2 + 3 ?"], n=16, sampling=Sampling(max_tokens=200))
        groups[0][3].text

Importing this package loads neither torch nor vLLM; opening an engine does.
"""

from importlib import import_module
from pathlib import Path

from pipeline.config.engine import EngineSettings, Sampling
from pipeline.engines.completion import Completion
from pipeline.engines.engine import Engine, EngineStats, OnGroup

__all__ = ["Completion", "Engine", "EngineSettings", "EngineStats", "OnGroup", "Sampling", "open_engine"]


def open_engine(
    settings: EngineSettings,
    model: str | Path,
    tokenizer=None,
    seed: int = 0,
    adapter_rank: int | None = None,
    device: str | None = None,
) -> Engine:
    """Open the engine that `settings` are of on the checkpoint `model` (a folder or a hub id).

    `tokenizer` (default: the checkpoint's own) encodes string prompts, decodes completions and names the end tokens.
    `seed` starts the engine's random numbers where a request brings no seed of its own. `device` is what it computes
    on, `cpu` or `cuda` (default: this machine's); vLLM computes on what it was built for.

    With `adapter_rank` (vLLM alone) the engine takes over LoRA adapters of `model` of up to that rank as adapters, and
    no other weights; without it adapters are merged into the weights that are handed over.

    Raises:
        ValueError: `adapter_rank` with an engine that takes over merged weights alone.
        MissingEngineError: the engine's package is not installed. No other engine is taken in its place.
    """
    if adapter_rank and not settings.takes_adapters:
        raise ValueError(
            f"adapter_rank={adapter_rank}, but the engine {settings.kind!r} takes over merged weights alone; "
            "open it without adapter_rank, or set kind: vllm"
        )
    module, _, name = settings.implementation.partition(":")
    return getattr(import_module(module), name)(settings, model, tokenizer, seed, adapter_rank, device)
