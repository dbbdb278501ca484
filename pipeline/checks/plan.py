"""What a profile takes on so many GPUs: memory by role, seconds a step, hours a stage, and how best to divide the GPUs.

    make plan PROFILE=qwen2.5-7b GPUS=64 [GPU=h100]

Arithmetic from shapes and rates alone (`pipeline.models.memory`, `speed`, `accelerators`): nothing is loaded.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.checks.models import model_sources
from pipeline.config.parallel import ParallelSettings
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage
from pipeline.ladder import STAGES, StageDefinition
from pipeline.models.accelerators import GIB, RATES, Accelerator, Rates
from pipeline.models.memory import Device, Estimate, rl_estimate
from pipeline.models.shapes import ModelShape, shape_of
from pipeline.models.speed import Costs, Rollout, sync_seconds, update_seconds, writing_seconds

NO_LENGTHS: Mapping[str, float] = {}


@dataclass(frozen=True)
class Layout:
    """How GPUs are divided. A process a trainer; `servers` 0: an engine in each of these processes."""

    trainers: int
    parallel: ParallelSettings
    servers: int = 0
    gpus_per_server: int = 1

    @property
    def shards(self) -> int:
        return self.parallel.shards(self.trainers)

    def __str__(self) -> str:
        held = f"{self.shards} shards" if self.shards > 1 else "whole models"
        if self.servers == 0:
            return f"{self.trainers} processes, {held}, an engine in each"
        return f"{self.trainers} trainers, {held}, and {self.servers} servers of {self.gpus_per_server}"


@dataclass(frozen=True)
class StagePlan:
    """One RL stage under a layout. Times are seconds."""

    stage: str
    write: float
    update: float
    sync: float
    """Each of one rollout."""
    limits: str
    """What takes the longest."""
    steps: int
    step: float
    hours: float
    memory: dict[str, float]
    """Bytes of a trainer's GPU, by what they are for."""
    server_memory: float
    """Bytes of a server's GPU that weights take; the rest is cache."""


@dataclass(frozen=True)
class Plan:
    layout: Layout
    stages: list[StagePlan] = field(default_factory=list)

    @property
    def hours(self) -> float:
        return sum(stage.hours for stage in self.stages)

    @property
    def gpus(self) -> int:
        return self.layout.trainers + self.layout.servers * self.layout.gpus_per_server


class DoesNotFit(Exception):
    """A layout cannot train a stage; the message says which and why."""


def best_plans(
    profile: Profile, gpu: Accelerator, gpus: int, rates: Rates = RATES, lengths: Mapping[str, float] = NO_LENGTHS
) -> tuple[list[Plan], list[str]]:
    """(the quickest plan with an engine in each process, then the quickest with servers apart; why others fell out).

    A kind that fits in no way has no entry. `lengths` are mean completions by stage, where a run has told them. Only RL
    stages are planned: they take nearly all of a run's time.
    """
    found: dict[bool, Plan] = {}
    why: dict[str, None] = {}
    for layout in layouts(profile, gpu, gpus):
        try:
            plan = planned(profile, gpu, layout, rates, lengths)
        except DoesNotFit as fault:
            why[str(fault)] = None
            continue
        apart = layout.servers > 0
        if apart not in found or plan.hours < found[apart].hours:
            found[apart] = plan
    return [found[apart] for apart in sorted(found)], list(why)


def layouts(profile: Profile, gpu: Accelerator, gpus: int) -> Iterator[Layout]:
    """Ways to divide so many GPUs that the profile's batches allow."""
    sharings = [profile.parallel]
    if profile.parallel.shard == "none":
        sharings.append(ParallelSettings(shard="fsdp2"))
    for trainers in range(1, gpus + 1):
        if any(batch % trainers for batch in profile.batches().values()):
            continue
        for parallel in sharings:
            if parallel.faults(trainers, profile.adapters()) or (trainers == 1 and parallel is not sharings[0]):
                continue
            yield Layout(trainers, parallel)
            size = 1
            while size <= min(gpus - trainers, gpu.per_machine):
                yield Layout(trainers, parallel, (gpus - trainers) // size, size)
                size *= 2


def planned(
    profile: Profile, gpu: Accelerator, layout: Layout, rates: Rates = RATES, lengths: Mapping[str, float] = NO_LENGTHS
) -> Plan:
    """Every RL stage of the profile under a layout. Raises DoesNotFit."""
    sections = profile.stages.of(RLStage).items()
    return Plan(
        layout, [_stage(profile, STAGES[name], s, gpu, layout, rates, lengths.get(name)) for name, s in sections]
    )


def rollout_of(section: RLStage, rates: Rates, longest: int | None = None, mean: float | None = None) -> Rollout:
    """What the stage asks for in a rollout; `mean` where a run has told the length of a completion."""
    grpo, longest = section.grpo, longest or section.grpo.longest_completion
    return Rollout(
        questions=grpo.prompts_per_rollout,
        group=grpo.group_size,
        steps=grpo.rollout_steps,
        prompt=rates.prompt_tokens,
        mean=min(mean or rates.mean_length * longest, longest),
        longest=longest,
        microbatch=grpo.microbatch_tokens("cuda"),
        reference=grpo.beta > 0,
        recomputes=grpo.gradient_checkpointing,
    )


def limits(section: RLStage) -> Iterator[tuple[int, int]]:
    """(optimizer steps, longest completion in them) of the stage's schedule."""
    grpo = section.grpo
    begins = sorted({0, *(change.from_step for change in grpo.max_completion_schedule)} | {grpo.max_steps})
    for first, end in itertools.pairwise(begins):
        if first < grpo.max_steps:
            yield min(end, grpo.max_steps) - first, grpo.completion_limit(first)


def trained_source(profile: Profile, stage: StageDefinition) -> str:
    """Where the base of the model that an RL stage trains comes from."""
    student = profile.stages.chosen_students.get(stage.id)
    return model_sources(profile)[student or "teacher"]


def _shape(profile: Profile, stage: StageDefinition) -> ModelShape:
    source = trained_source(profile, stage)
    shape = shape_of(source)
    if shape is None:
        raise DoesNotFit(f"{stage.id}: the layers of {source} are not known here")
    return shape


def _stage(
    profile: Profile,
    stage: StageDefinition,
    section: RLStage,
    gpu: Accelerator,
    layout: Layout,
    rates: Rates,
    mean: float | None,
) -> StagePlan:
    shape = _shape(profile, stage).training_modules(section.grpo.mtp_weight)
    costs, apart = Costs.of(shape), layout.servers > 0
    device = Device("cuda", layout.trainers, gpu.size, layout.trainers, layout.parallel)
    estimate = rl_estimate(shape, profile, section, device)
    needed = estimate.total - (estimate.engine if apart else 0)
    if costs.heads % layout.gpus_per_server:
        raise DoesNotFit(
            f"{stage.id}: {costs.heads} heads do not divide among {layout.gpus_per_server} GPUs of a server"
        )
    if needed > rates.room * gpu.size:
        raise DoesNotFit(
            f"{stage.id}, {layout.trainers} trainers with {layout.shards} shards: a trainer takes "
            f"{needed / GIB:.0f} GiB, and {rates.room:.0%} of {gpu.name} is {rates.room * gpu.gib:.0f} GiB"
        )
    servers = layout.servers or layout.trainers
    # A share of the GPU is the engine's own where it lies beside training.
    share = {} if apart else {"share": estimate.engine / gpu.size}
    steps, seconds, spent, last = 0, 0.0, [0.0, 0.0, 0.0], None
    for some, longest in limits(section):
        work = rollout_of(section, rates, longest, mean)
        write = writing_seconds(costs, gpu, rates, work, servers, layout.gpus_per_server, **share)
        if math.isinf(write):
            raise DoesNotFit(f"{stage.id}: an engine of {layout.gpus_per_server} × {gpu.name} does not hold the model")
        operations, wire = update_seconds(costs, gpu, rates, work, layout.trainers, layout.shards)
        sync = sync_seconds(costs, gpu, rates, layout.trainers, layout.shards, apart)
        update, rollouts = max(operations, wire), some / work.steps
        ahead = apart and section.grpo.steps_ahead > 0
        whole = max(write, update) + sync if ahead else write + update + sync
        steps, seconds = steps + some, seconds + rollouts * whole
        spent = [total + rollouts * part for total, part in zip(spent, (write, update, sync), strict=True)]
        last = (operations, wire)
    rollouts = steps / section.grpo.rollout_steps
    write, update, sync = (part / rollouts for part in spent)
    slowest = {"writing": write, "the wire" if last[1] > last[0] else "operations": update, "weights to engines": sync}
    return StagePlan(
        stage=stage.id,
        write=write,
        update=update,
        sync=sync,
        limits=max(slowest, key=slowest.__getitem__),
        steps=steps,
        step=seconds / steps,
        hours=seconds / 3600,
        memory=_memory(estimate, apart),
        server_memory=2 * costs.parameters / layout.gpus_per_server,
    )


def _memory(estimate: Estimate, apart: bool) -> dict[str, float]:
    parts = {
        "weights, gradients, optimizer": estimate.weights,
        "reference, reward models": estimate.reference,
        "activations, gathered layers": estimate.activations,
        "engine": 0.0 if apart else estimate.engine,
    }
    return {**parts, "in all": estimate.total - (estimate.engine if apart else 0)}
