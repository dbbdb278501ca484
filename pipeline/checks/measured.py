"""A run's own rates: fitted on some steps of its first RL stage, and held against what all its other steps took.

Two rates say how long writing takes, seconds for each token of the longest completion (they come one after the other)
and for each operation; one says how long an update takes, operations a second. They carry over to models of another
size, as rates for each token would not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.checks.plan import trained_source
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage
from pipeline.core.errors import ConfigError
from pipeline.core.files import read_json_lines
from pipeline.core.manifest import Manifest
from pipeline.ladder import STAGES, StageDefinition
from pipeline.models.memory import Device, rl_estimate
from pipeline.models.shapes import ModelShape, shape_of
from pipeline.runs.folder import RunFolder
from pipeline.training.records import METRICS

WARM_UP = 3
"""Steps at the start of a stage that are left out: engine and caches are new."""
LEAST = 8
"""Steps that rates are fitted on at least."""
USED = ("rollout_tokens", "forward_tokens", "trained_tokens", "completion_tokens_max", "seconds_rollout",
        "seconds_update", "seconds_step", "microbatches")  # fmt: skip

Step = dict[str, Any]


@dataclass(frozen=True)
class FittedRates:
    """Seconds."""

    longest_token: float
    """For each token of a rollout's longest completion."""
    written_operation: float
    """For each weight that a token goes through when it is written."""
    trained_operation: float
    """The same in an update."""

    def write(self, shape: ModelShape, step: Step) -> float:
        return self.longest_token * step["completion_tokens_max"] + self.written_operation * _written(shape, step)

    def update(self, shape: ModelShape, step: Step) -> float:
        return self.trained_operation * _trained(shape, step)


@dataclass(frozen=True)
class Comparison:
    """One stage: what its steps took on average, and what rates fitted on others say."""

    stage: str
    steps: int
    predicted: dict[str, float]
    measured: dict[str, float]
    """Seconds a step by phase."""
    predicted_memory: float
    measured_memory: float | None
    """Bytes; None where the stage has not ended."""

    @property
    def ratio(self) -> float:
        """Of the seconds a step, predicted to measured."""
        return self.predicted["step"] / self.measured["step"]


def compare_with_run(profile: Profile, run: RunFolder) -> tuple[FittedRates, list[Comparison]]:
    """Raises ConfigError where the run has no RL stage with enough steps, or trains a model of unknown layers."""
    stages = {name: steps for name in profile.stages.of(RLStage) if (steps := steps_of(run, STAGES[name]))}
    first = next(iter(stages), None)
    fitted_on = stages[first][::2] if first else []
    if len(fitted_on) < LEAST:
        raise ConfigError(
            f"{run.path} has {len(fitted_on)} steps of RL to fit rates on, and {LEAST} are needed, every other one of "
            f"its first RL stage after the first {WARM_UP}. Let it train longer, or plan without RUN=."
        )
    rates = fit(_shape(profile, STAGES[first]), fitted_on)
    found = []
    for name, steps in stages.items():
        held = steps[1::2] if name == first else steps
        found.append(_compare(profile, run, STAGES[name], rates, held))
    return rates, found


def mean_lengths(profile: Profile, run: RunFolder) -> dict[str, float]:
    """The mean completion of the last steps of each RL stage that the run has come to."""
    found = {name: steps_of(run, STAGES[name])[-LEAST:] for name in profile.stages.of(RLStage)}
    return {
        name: sum(step["completion_tokens"] for step in steps) / len(steps) for name, steps in found.items() if steps
    }


def steps_of(run: RunFolder, stage: StageDefinition) -> list[Step]:
    """The steps of an RL stage that wrote a rollout, finished or under way, without the first few."""
    folders = [run.stage(stage.id), *sorted(run.path.glob(f".partial/{stage.id}-*"))]
    path = next((folder / METRICS for folder in folders if (folder / METRICS).is_file()), None)
    rows = [row for _, row in read_json_lines(path)] if path else []
    return [row for row in rows[WARM_UP:] if all(row.get(key) for key in USED)]


def fit(shape: ModelShape, steps: Sequence[Step]) -> FittedRates:
    """Least squares of the relative errors; no rate is below 0."""
    longest = [step["completion_tokens_max"] / step["seconds_rollout"] for step in steps]
    written = [_written(shape, step) / step["seconds_rollout"] for step in steps]
    xx, xy, yy = _dot(longest, longest), _dot(longest, written), _dot(written, written)
    determinant = xx * yy - xy * xy
    if determinant > 1e-9 * xx * yy:
        first = (sum(longest) * yy - sum(written) * xy) / determinant
        second = (sum(written) * xx - sum(longest) * xy) / determinant
    else:  # all steps alike
        first = second = -1.0
    if first < 0:
        first, second = 0.0, sum(written) / yy
    elif second < 0:
        first, second = sum(longest) / xx, 0.0
    trained = sum(step["seconds_update"] for step in steps) / sum(_trained(shape, step) for step in steps)
    return FittedRates(first, second, trained)


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _written(shape: ModelShape, step: Step) -> float:
    return step["rollout_tokens"] * (shape.body_parameters + shape.embedding_parameters)


def _trained(shape: ModelShape, step: Step) -> float:
    """Weights that tokens go through: the head is asked for those that train alone."""
    body = step["forward_tokens"] * (shape.body_parameters + shape.ahead_parameters)
    return body + step["trained_tokens"] * shape.embedding_parameters * (1 + shape.trained_modules)


def _compare(
    profile: Profile, run: RunFolder, stage: StageDefinition, rates: FittedRates, steps: list[Step]
) -> Comparison:
    shape, count = _shape(profile, stage), len(steps)
    manifest = Manifest.read(run.stage(stage.id))
    write = sum(rates.write(shape, step) for step in steps) / count
    update = sum(rates.update(shape, step) for step in steps) / count
    rollout, training, whole = (
        sum(step[f"seconds_{name}"] for step in steps) / count for name in ("rollout", "update", "step")
    )
    rest = whole - rollout - training  # scoring and weight sync, which the rates say nothing of
    processes = manifest.processes if manifest else 1
    kind = "cuda" if manifest and manifest.device.startswith("cuda") else "cpu"
    device = Device(kind, processes, _memory_of(profile), processes, profile.parallel)
    tokens = max(step["forward_tokens"] / step["microbatches"] for step in steps)
    return Comparison(
        stage=stage.id,
        steps=count,
        predicted={"write": write, "update": update, "step": write + update + rest},
        measured={"write": rollout, "update": training, "step": whole},
        predicted_memory=rl_estimate(shape, profile, getattr(profile.stages, stage.id), device, tokens).total,
        measured_memory=manifest.peak_memory_bytes if manifest else None,
    )


def _memory_of(profile: Profile) -> float:
    return profile.made_for.gib * 2**30 if profile.made_for else 0.0


def _shape(profile: Profile, stage: StageDefinition) -> ModelShape:
    source = trained_source(profile, stage)
    shape = shape_of(source)
    if shape is None:
        raise ConfigError(f"{stage.id} trains {source}, whose layers are not known here, so its rates mean nothing.")
    return shape.training_modules(getattr(profile.stages, stage.id).grpo.mtp_weight)
