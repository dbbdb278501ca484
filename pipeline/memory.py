"""What training takes in memory, worked out before it starts, and what this machine has.

Estimates, not measurements: they tell what cannot fit from what may. Weights and optimizer are exact. Activations are
counted as in Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1) without the attention matrix, which is never
stored, and with what mixed precision keeps in float32. Allocators hold somewhat more than is in use.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from pipeline.config.profile import Profile
from pipeline.model_shapes import ModelShape
from pipeline.training.lora import LoRASettings

NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4_BYTES = 0.53
"""A weight in 4 bits with its doubly quantised block constants (arXiv 2305.14314, section 3)."""
TRAINED_BYTES = 16
"""A trained weight: itself, its gradient and Adam's two moments in float32."""
LAYER_NUMBERS = 30
"""Numbers a layer keeps for the backward pass, as a multiple of tokens × hidden size: 17 of 2 bytes by the paper, and
the residual stream and the norms, which autocast leaves in float32."""
LOGIT_NUMBERS = 5
"""float32 numbers a token and vocabulary entry: logits, log-probabilities, entropy's terms, gradients."""
RUNTIME_BYTES = 1.5 * 2**30
"""What Python, torch and the engine hold before any model."""


@dataclass(frozen=True)
class Estimate:
    """Bytes, by what they are for."""

    weights: float
    """Policy: weights, gradients, optimizer."""
    reference: float
    activations: float
    engine: float
    """The rollout engine's weights and key-value cache."""

    @property
    def total(self) -> float:
        return self.weights + self.reference + self.activations + self.engine + RUNTIME_BYTES


def policy_bytes(shape: ModelShape, lora: LoRASettings | None, dtype: str) -> float:
    if lora is None:
        return shape.parameters * TRAINED_BYTES
    frozen = NF4_BYTES if lora.quantize == "nf4" else NUMBER_BYTES[dtype]
    return shape.parameters * frozen + lora.parameters(shape.linear_shapes) * TRAINED_BYTES


def activation_bytes(shape: ModelShape, tokens: int, dtype: str, checkpointing: bool) -> float:
    """For one forward and backward pass over so many tokens."""
    layer = LAYER_NUMBERS * tokens * shape.hidden * NUMBER_BYTES[dtype]
    kept = layer + shape.layers * tokens * shape.hidden * NUMBER_BYTES[dtype] if checkpointing else layer * shape.layers
    return kept + LOGIT_NUMBERS * 4 * tokens * shape.vocabulary


def rl_estimate(shape: ModelShape, profile: Profile, grpo, device: str) -> Estimate:
    """The RL stage with these `grpo` settings, its engine in the same memory."""
    tokens = max(grpo.max_tokens_per_microbatch, grpo.longest_completion)
    engine = profile.engine
    served = shape.parameters * NUMBER_BYTES[engine.dtype]
    cache_bytes = 0 if engine.kind == "transformers" else engine.kv_cache_gib * 2**30
    if engine.kind == "vllm-server":
        served = cache_bytes = 0
    elif device == "cuda" and engine.kind == "vllm":
        served, cache_bytes = engine.gpu_memory_utilization * device_bytes("cuda"), 0
    return Estimate(
        weights=policy_bytes(shape, grpo.lora, profile.dtype),
        reference=4 * shape.parameters if grpo.beta > 0 and grpo.lora is None else 0,
        activations=activation_bytes(shape, tokens, profile.dtype, grpo.gradient_checkpointing),
        engine=served + cache_bytes,
    )


def sft_estimate(shape: ModelShape, profile: Profile, sft, device: str) -> Estimate:
    """An SFT stage at its longest rows. The engine of an earlier stage stays open beside it."""
    tokens = sft.rows_per_device * min(sft.max_tokens, profile.engine.max_model_len)
    return Estimate(
        weights=policy_bytes(shape, sft.lora, profile.dtype),
        reference=0,
        activations=activation_bytes(shape, tokens, profile.dtype, checkpointing=device != "cpu"),
        engine=0,
    )


def device_kind(profile: Profile) -> str:
    """`cuda` where the profile allows it and nvidia-smi finds a GPU, else `cpu`."""
    return "cuda" if profile.device != "cpu" and _gpus() else "cpu"


def device_bytes(kind: str) -> int:
    """Memory of one GPU, or of this machine."""
    if kind == "cuda":
        return min(_gpus())
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def devices(kind: str) -> int:
    return len(_gpus()) if kind == "cuda" else 1


@cache
def _gpus() -> tuple[int, ...]:
    """Bytes of each GPU."""
    if shutil.which("nvidia-smi") is None:
        return ()
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(int(line) * 2**20 for line in listed.splitlines() if line.strip().isdigit())


def spread(total: float, kind: str) -> str:
    """Whether `total` bytes fit into this machine: '' where they do, else a sentence."""
    one, count = device_bytes(kind), devices(kind)
    if total <= one:
        return ""
    where = f"{count} GPUs of {_gib(one)}" if kind == "cuda" else f"{_gib(one)} of this machine"
    if total <= one * count:
        return f"fits the {where} only with weights and optimizer sharded over them"
    return f"more than the {where}"


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"
