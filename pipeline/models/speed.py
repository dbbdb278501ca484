"""How long an RL step takes on given GPUs, worked out from shapes and rates. Seconds, bytes, tokens throughout.

Writing decides: a rollout ends with its longest completion, whose tokens come one after the other. So decoding is
followed along the length, with as many sequences as are still being written there. Lengths are taken as exponential,
cut at the limit, with the stage's mean.
"""

import math
from dataclasses import dataclass

from pipeline.models.accelerators import Accelerator, Rates
from pipeline.models.shapes import ModelShape

PARTS = 200
"""Pieces in which a rollout's length is followed."""
BFLOAT16 = 2
SERVED_SHARE = 0.9
"""Of a server's memory, for weights and cache."""


@dataclass(frozen=True)
class Ahead:
    """What a model's multi-token prediction modules add to its costs."""

    used: float = 0.0
    """Weights that a token goes through in those that train, the head among them."""
    attention: float = 0.0
    """Forward operations in those that train, for each pair of a token and one that it attends to."""
    trained: float = 0.0
    """Weights of those that train."""
    stored: float = 0.0
    """Weights of all, which a sync carries too."""


@dataclass(frozen=True)
class Costs:
    """What a model costs, a token or as a whole; where nothing else is said, without its modules."""

    parameters: float
    active: float
    """Weights that a token uses: all but those of experts that are not its own."""
    cache: float
    """Bytes of key-value cache of a token, all layers, in bfloat16."""
    attention: float
    """Forward operations for each pair of a token and one that it attends to."""
    largest_layer: float
    """Weights of the largest layer, which models in shards gather whole."""
    layers: int
    heads: int
    """Attention heads that a server's GPUs divide among themselves."""
    ahead: Ahead = Ahead()

    @classmethod
    def of(cls, shape: ModelShape) -> "Costs":
        return cls(
            parameters=shape.main.parameters,
            active=shape.active_parameters,
            cache=BFLOAT16 * shape.cached_numbers(),
            attention=2 * shape.attention_numbers,
            largest_layer=shape.layer_parameters,
            layers=shape.layers,
            heads=shape.heads,
            ahead=Ahead(
                used=shape.ahead_parameters + shape.trained_modules * shape.embedding_parameters,
                attention=2 * shape.attention_numbers * shape.trained_modules / shape.layers,
                trained=shape.trained_modules * shape.module_parameters,
                stored=shape.modules * shape.module_parameters,
            ),
        )


@dataclass(frozen=True)
class Rollout:
    """What a rollout asks for and the updates on it."""

    questions: int
    group: int
    steps: int
    """Optimizer steps a rollout."""
    prompt: float
    mean: float
    """Mean completion."""
    longest: int
    microbatch: int
    """Tokens a forward pass."""
    reference: bool = False
    recomputes: bool = False
    """Gradient checkpointing."""

    @property
    def completions(self) -> int:
        return self.questions * self.group

    def survival(self) -> "Survival":
        return Survival(self.mean, self.longest)


class Survival:
    """Share of completions longer than a length: exponential, cut at `longest`, with the mean `mean`."""

    def __init__(self, mean: float, longest: int):
        self.longest = longest
        low, high = 0.0, 100.0 / mean
        for _ in range(100):
            self._rate = (low + high) / 2
            low, high = (self._rate, high) if self._mean() > mean else (low, self._rate)

    def _mean(self) -> float:
        rate = max(self._rate, 1e-12)
        return (1 - math.exp(-rate * self.longest)) / rate

    def __call__(self, length: float) -> float:
        return math.exp(-self._rate * length) if length < self.longest else 0.0


def decoding_step(costs: Costs, gpu: Accelerator, rates: Rates, gpus: int, running: float, context: float) -> float:
    """Seconds in which `gpus` as one server write a token of each of `running` sequences of `context` tokens."""
    touched = costs.parameters
    if costs.active < costs.parameters:  # the share of the experts that so many tokens call
        touched *= 1 - (1 - costs.active / costs.parameters) ** max(1.0, running)
    read = (BFLOAT16 * touched + running * context * costs.cache) / (gpus * gpu.bandwidth * rates.memory_use)
    computed = 2 * costs.active * running / (gpus * gpu.flops * rates.decode_use)
    together = 2 * costs.layers * rates.meeting_s if gpus > 1 else 0.0
    return rates.decode_floor_s + together + max(read, computed)


def writing_seconds(
    costs: Costs, gpu: Accelerator, rates: Rates, work: Rollout, servers: int, gpus: int, share: float = SERVED_SHARE
) -> float:
    """A rollout by `servers` of `gpus` each, with `share` of their memory; infinite where the model does not fit.

    Completions start together where their cache fits, else in waves: the last wave has the tail, the others take their
    mean length.
    """
    room = share * gpus * gpu.size - BFLOAT16 * costs.parameters
    slots = room / (costs.cache * (work.prompt + work.mean))
    if slots < 1:
        return math.inf
    each = work.completions / servers
    waves = max(1.0, each / slots)
    together, step, survival, seconds = each / waves, work.longest / PARTS, work.survival(), 0.0
    for part in range(PARTS):
        length = (part + 0.5) * step
        running = together * survival(length)
        # the longest of `completions` is where less than one is left over all servers
        if running * servers * waves < 0.5:
            break
        context = work.prompt + length
        seconds += step * decoding_step(costs, gpu, rates, gpus, max(1.0, running), context)
    context = work.prompt + work.mean / 2
    return seconds + (waves - 1) * work.mean * decoding_step(costs, gpu, rates, gpus, together, context)


def update_seconds(
    costs: Costs, gpu: Accelerator, rates: Rates, work: Rollout, trainers: int, shards: int
) -> tuple[float, float]:
    """(operations, wire): seconds of all optimizer steps of one rollout, were it the one alone or the other."""
    tokens = work.completions * work.mean + work.questions * work.prompt
    pairs = work.completions * (work.mean * work.prompt + work.mean**2)  # E[length²] / 2 of exponential lengths
    forward = 2 * costs.active * tokens + costs.attention * pairs
    passes = 3 + work.recomputes + work.reference + (1 - 1 / work.steps)  # old log-probabilities of later steps
    further = 2 * costs.ahead.used * tokens + costs.ahead.attention * pairs  # in passes with a gradient alone
    computed = passes * forward + (3 + work.recomputes) * further
    operations, trained = computed / (trainers * gpu.flops * rates.update_use), costs.parameters + costs.ahead.trained
    if trainers == 1:
        return operations, 0.0
    wire = gpu.wire(trainers) * rates.wire_use
    if shards == 1:  # gradients in float32, there and back, once a step
        return operations, work.steps * 2 * 4 * trained / wire
    microbatches = max(work.steps, math.ceil(tokens / trainers / work.microbatch))
    gathers = 2 + work.reference * 2 + (1 - 1 / work.steps)  # forward and backward; the reference's is float32
    return operations, microbatches * (gathers * BFLOAT16 + 4) * trained / wire


def sync_seconds(costs: Costs, gpu: Accelerator, rates: Rates, trainers: int, shards: int, apart: bool) -> float:
    """The policy's weights to the engines, once a rollout: gathered, and to servers through a folder."""
    weights = BFLOAT16 * (costs.parameters + costs.ahead.stored)
    gathered = weights / (gpu.wire(trainers) * rates.wire_use) if shards > 1 else 0.0
    copied = 2 * weights / rates.folder_rate if apart else weights / (gpu.bandwidth * rates.memory_use)
    return gathered + copied
