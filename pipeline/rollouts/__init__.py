"""Rollouts: one interface over the engines that write completions, used by RL, data sampling and evaluation alike.

    with open_engine(EngineSettings(max_model_len=1024), "runs/pocket/r1_zero/checkpoint") as engine:
        groups = engine.generate(["What is 2 + 3 ?"], n=16, sampling=Sampling(max_tokens=200))
        groups[0][3].text

Importing this package loads neither torch nor vLLM; opening an engine does.
"""

from pathlib import Path

from pipeline.rollouts.engine import Engine, EngineStats, OnGroup
from pipeline.rollouts.types import Completion, EngineSettings, Sampling

__all__ = ["Completion", "Engine", "EngineSettings", "EngineStats", "OnGroup", "Sampling", "open_engine"]


def open_engine(settings: EngineSettings, model: str | Path, tokenizer=None, seed: int = 0) -> Engine:
    """Open the engine that `settings.kind` names on the checkpoint `model` (a folder or a hub id).

    `tokenizer` (default: the checkpoint's own) encodes string prompts, decodes completions and names the end tokens.
    `seed` starts the engine's random numbers where a request brings no seed of its own.

    Raises:
        MissingEngineError: the engine's package is not installed. No other engine is taken in its place.
    """
    if settings.kind == "vllm":
        from pipeline.rollouts.vllm_engine import VLLMEngine as engine_class
    elif settings.kind == "transformers":
        from pipeline.rollouts.transformers_engine import TransformersEngine as engine_class
    else:
        from pipeline.rollouts.server_engine import ServerEngine as engine_class
    return engine_class(settings, model, tokenizer, seed)
