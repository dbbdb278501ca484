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

from pipeline.config.engine import EngineSettings
from pipeline.config.lora import LoRASettings
from pipeline.config.parallel import NOT_SHARED, ParallelSettings
from pipeline.config.profile import Profile
from pipeline.config.reward_model import RewardTraining
from pipeline.config.sft import SFTSettings
from pipeline.config.stages import RLStage
from pipeline.models.shapes import ModelShape

NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4_BYTES = 0.53
"""A weight in 4 bits with its doubly quantised block constants (arXiv 2305.14314, section 3)."""
TRAINED_BYTES = 16
"""A trained weight: itself, its gradient and Adam's two moments in float32."""
BUCKET_BYTES = 4
"""A trained weight's place in the buffers in which several processes average gradients."""
GATHERED_LAYERS = 2
"""Layers of a model in shards that are gathered at a time: the one that is computed and the next."""
LAYER_NUMBERS = 30
"""Numbers a layer keeps for the backward pass, as a multiple of tokens × hidden size: 17 of 2 bytes by the paper, and
the residual stream and the norms, which autocast leaves in float32."""
MODULE_NUMBERS = 10
"""What a multi-token prediction module keeps besides a layer, counted likewise: the next token's embedding, both norms,
what they give side by side, and the last norm. In float32, where it is 6, measured."""
AUTOCAST_BYTES = 2
"""Autocast's bfloat16 copy of a trained float32 weight."""
TILE_VOCABULARY = 32_768
"""Vocabulary entries of a tile in which packed RL training computes log-probabilities, without storing the logits."""
LOGIT_NUMBERS = 5
"""float32 numbers a token and vocabulary entry: logits, log-probabilities, entropy's terms, gradients."""
RUNTIME_BYTES = 1.5 * 2**30
"""What Python, torch and the engine hold before any model."""


@dataclass(frozen=True)
class Device:
    """What training runs on."""

    kind: str
    """`cuda` or `cpu`."""
    count: int
    size: float
    """Bytes of one GPU, or of the machine."""
    processes: int = 1
    """How many of the GPUs a run uses, with a process each."""
    parallel: ParallelSettings = NOT_SHARED
    """How these processes share a model."""

    @property
    def shards(self) -> int:
        """In how many parts each model is."""
        return self.parallel.shards(self.processes)

    def __str__(self) -> str:
        if self.kind == "cuda":
            return f"{self.count} GPU{'s' if self.count > 1 else ''} of {_gib(self.size)}"
        return f"{_gib(self.size)} of this machine"


@dataclass(frozen=True)
class Estimate:
    """Bytes, by what they are for."""

    weights: float
    """Policy: weights, gradients, optimizer; of a model in shards one process's part."""
    reference: float
    """Frozen models beside the policy: reference model and reward models."""
    activations: float
    """What a pass keeps, with autocast's copy of the weights, or what of a model in shards is gathered at a time."""
    engine: float
    """The rollout engine's weights and key-value cache."""

    @property
    def total(self) -> float:
        return self.weights + self.reference + self.activations + self.engine + RUNTIME_BYTES


def policy_bytes(shape: ModelShape, lora: LoRASettings | None, dtype: str, device: Device) -> float:
    """In each of the processes, one a GPU: each holds the whole model, or its shard. Modules that do not train have
    neither gradients nor an optimizer."""
    if device.parallel.offload and device.shards > 1:
        return 0
    trained = TRAINED_BYTES + (BUCKET_BYTES if device.processes > 1 and device.shards == 1 else 0)
    if lora is None:
        still = shape.frozen_parameters
        return ((shape.parameters - still) * trained + still * NUMBER_BYTES["float32"]) / device.shards
    frozen = NF4_BYTES if lora.quantize == "nf4" else NUMBER_BYTES[dtype]
    return (shape.parameters * frozen + lora.parameters(shape.linear_shapes) * trained) / device.shards


def reference_bytes(shape: ModelShape, device: Device) -> float:
    """The reference model beside a policy whose weights are all trained: float32, in shards by layers as it is. In
    shards it is a copy of the policy, else TRL's, which has no modules."""
    if device.shards == 1:
        return 4 * shape.main.parameters
    held = 0 if device.parallel.offload else 4 * shape.parameters / device.shards
    return held + GATHERED_LAYERS * 4 * shape.main.layer_parameters


def gathered_bytes(shape: ModelShape, lora: LoRASettings | None, dtype: str, device: Device) -> float:
    """Of a model in shards: the layers, embeddings and head that are whole at a time, and the gradients of the largest
    of them on their way to their owners, which add them up in float32."""
    if device.shards == 1:
        return 0
    number = NUMBER_BYTES[dtype if lora or device.parallel.gather == "bfloat16" else "float32"]
    embeddings = shape.embedding_parameters * (1 if shape.tied else 2)
    weights = number * (GATHERED_LAYERS * shape.layer_parameters + embeddings)
    largest = max(shape.layer_parameters, shape.embedding_parameters) if lora is None else 0
    return weights + (number + 4) * largest


def activation_bytes(shape: ModelShape, tokens: float, dtype: str, checkpointing: bool) -> float:
    """For one forward and backward pass over so many tokens, without the logits."""
    number = tokens * NUMBER_BYTES[dtype]
    layer = (LAYER_NUMBERS * shape.hidden + shape.expert_numbers) * number
    layers = shape.layers + shape.trained_modules
    further = MODULE_NUMBERS * shape.hidden * number if shape.trained_modules else 0
    return further + layer + (layers * shape.hidden * number if checkpointing else layer * (layers - 1))


def cast_bytes(shape: ModelShape, lora: LoRASettings | None, dtype: str, device: Device) -> float:
    """Weights in the form that a pass computes with: autocast's copy of them, or what is gathered of shards."""
    if device.shards > 1:
        return gathered_bytes(shape, lora, dtype, device)
    used = shape.parameters - shape.frozen_parameters
    return AUTOCAST_BYTES * used if lora is None and dtype != "float32" else 0


def rl_estimate(
    shape: ModelShape, profile: Profile, stage: RLStage, device: Device, tokens: float | None = None
) -> Estimate:
    """An RL stage with its engine in the same memory. Reward models of the ladder stay from their first use on.

    `tokens`: what a pass had at most (default: what it may have).
    """
    grpo = stage.grpo
    shape = shape.training_modules(grpo.mtp_weight)
    tokens = tokens or max(grpo.microbatch_tokens(device.kind), grpo.longest_completion)
    engine = profile.engine
    reference = reference_bytes(shape, device) if grpo.beta > 0 and grpo.lora is None else 0
    scorers = sum(spec.scorer is not None for spec in stage.rewards)
    tile = 4 * tokens * min(shape.vocabulary, TILE_VOCABULARY)
    return Estimate(
        weights=policy_bytes(shape, grpo.lora, profile.dtype, device),
        reference=reference + scorers * shape.main.parameters * NUMBER_BYTES[profile.dtype],
        activations=activation_bytes(shape, tokens, profile.dtype, grpo.gradient_checkpointing)
        + cast_bytes(shape, grpo.lora, profile.dtype, device)
        + tile,
        engine=engine.memory(
            (shape if engine.holds_modules else shape.main).parameters * NUMBER_BYTES[engine.dtype],
            shape.cached_numbers(getattr(engine, "latent_cache", True), _drafting(shape, engine))
            * NUMBER_BYTES[engine.dtype],
            device.kind,
            device.size,
        ),
    )


def sft_estimate(shape: ModelShape, profile: Profile, sft: SFTSettings, device: Device) -> Estimate:
    """An SFT stage at its longest rows. On a GPU the engine is closed before."""
    shape = shape.training_modules(sft.mtp_weight)
    tokens = sft.rows_per_device * min(sft.max_tokens, profile.engine.max_model_len)
    return Estimate(
        weights=policy_bytes(shape, sft.lora, profile.dtype, device),
        reference=0,
        activations=activation_bytes(shape, tokens, profile.dtype, checkpointing=device.kind != "cpu")
        + cast_bytes(shape, sft.lora, profile.dtype, device)
        + LOGIT_NUMBERS * 4 * tokens * shape.vocabulary,
        engine=0,
    )


def reward_model_estimate(shape: ModelShape, profile: Profile, settings: RewardTraining, device: Device) -> Estimate:
    """Training a reward model on pairs of the longest answers. Its head gives a number, so there are no logits, and
    modules are left out."""
    shape = shape.main
    texts = 2 * min(settings.batch_size, settings.pairs_per_device)
    tokens = texts * min(settings.max_tokens, profile.engine.max_model_len)
    return Estimate(
        weights=policy_bytes(shape, settings.lora, profile.dtype, device),
        reference=0,
        activations=activation_bytes(shape, tokens, profile.dtype, checkpointing=device.kind != "cpu")
        + cast_bytes(shape, settings.lora, profile.dtype, device),
        engine=0,
    )


def _drafting(shape: ModelShape, engine: EngineSettings) -> int:
    """Modules that write with the engine."""
    return min(shape.modules, getattr(engine, "mtp_drafts", 0))


def intended_device(profile: Profile, processes: int = 1) -> Device:
    """What the profile says that it is made for; this machine where it says nothing."""
    if profile.made_for is None:
        return this_device(profile, processes)
    return Device("cuda", profile.made_for.gpus, profile.made_for.gib * 2**30, processes, profile.parallel)


def this_device(profile: Profile, processes: int = 1) -> Device:
    """This machine's GPUs, else its memory."""
    kind = device_kind(profile)
    return Device(kind, devices(kind), device_bytes(kind), processes, profile.parallel)


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


def spread(total: float, device: Device) -> str:
    """Whether `total` bytes in a process fit the device: '' where they do, else a sentence. Each process drives one
    GPU, so other GPUs help only where models are in shards."""
    if total <= device.size:
        return ""
    if device.shards > 1:
        return f"more than one GPU of {_gib(device.size)} holds, with models in {device.shards} shards"
    if device.kind == "cuda" and device.count > 1:
        return (
            f"more than one GPU of {_gib(device.size)} holds, and models are not sharded over the {device.count}: "
            "parallel.shard: fsdp2 does it"
        )
    return f"more than the {device}"


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"
