"""`make all BUDGET=2h`: sizes for the stages of a run, so that all of it ends in a given time.

First the machine is measured for a short while: how many sequences at once are fastest, and a few RL steps. Before each
stage its sizes are chosen: the largest with which all that is left still fits, by the time used so far and by how long
the finished stages took. `budget.json` in the run's folder keeps time, measurements and choices; every later command on
the run reads them. Time between two commands does not count.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipeline.config.profile import Profile
from pipeline.core.console import set_up_logging
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.files import write_durably
from pipeline.ladder import STAGES, StageDefinition
from pipeline.runs.bounds import (
    CONCURRENCY,
    MOVABLE,
    Bounds,
    bounds_of,
    overrides,
    stage_of,
    value_at,
    values_at,
    with_values,
)
from pipeline.runs.work import work_of
from pipeline.steps.context import StageContext

BUDGET = "budget.json"
Reload = Callable[[Sequence[str]], Profile]
"""The profile with overrides below those of the command line."""

OpenStage = Callable[[StageDefinition, Profile, Path, logging.Logger], AbstractContextManager[StageContext]]
"""Opens a stage in a folder: the context with which its function is called."""

LONGEST_MEASURING_S, MEASURING_SHARE = 120.0, 0.08
FIXED_SHARE = 0.1
"""Of the seconds that a profile gives for a stage, those that do not become fewer with its size: models are loaded."""
MEASURED_WEIGHT_S = 30.0
"""Seconds of finished stages that count as much as the measured steps."""
EARLIER, OTHER_KIND = 0.5, 0.25
"""Weight of what was known before a stage of the same kind ended, and of a stage of another kind."""
HALVINGS = 9
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|s)")


def parse_duration(text: str) -> float:
    """Seconds of `2h`, `90m`, `1h30m` or `1.5h`. Raises ConfigError."""
    seconds = sum(float(number) * UNITS[unit] for number, unit in DURATION.findall(text))
    if DURATION.sub("", text).strip() or not seconds:
        raise ConfigError(f"BUDGET={text!r}: expected hours, minutes or seconds, such as 2h, 90m or 1h30m.")
    return seconds


def duration(seconds: float) -> str:
    """As a budget is written: `1h05m`, `4m`, `3m20s`, `45s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m" if minutes % 60 else f"{minutes // 60}h"
    return (f"{minutes}m" if minutes else "") + (f"{rest}s" if rest or not minutes else "")


class Measured(BaseModel):
    """What was measured on this machine, in seconds."""

    written_s: float
    """A token written, everything of a step but the update included."""
    trained_s: float
    """A token through forward and backward."""
    step_s: float
    """One of the first steps of the first RL stage."""
    start_s: float
    """From the start of a stage to its first step."""
    max_sequences: int
    """Sequences at once with which most tokens a second were written."""


Measure = Callable[[float, Reload, Sequence[str], Bounds, Path, OpenStage], Measured]
"""`pipeline.runs.measuring.measure`, which loads the trainer."""


class Record(BaseModel):
    """What `budget.json` holds."""

    seconds: float
    spent: float = 0.0
    measured: Measured | None = None
    chosen: dict[str, int] = {}
    """Key of the profile -> value, for every stage that has begun."""
    stages: dict[str, tuple[float, float]] = {}
    """Finished stage -> (seconds expected of it before any correction, seconds that it took)."""


def read_record(folder: Path) -> Record | None:
    """The budget of the run in a folder, None where it has none. Raises RunError where it is damaged."""
    path = folder / BUDGET
    if not path.is_file():
        return None
    try:
        return Record.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}). Put it back, or remove it: sizes are then the profile's."
        ) from None


class Budget:
    """The budget of one run while it runs."""

    def __init__(
        self,
        folder: Path,
        reload: Reload,
        measure: Measure,
        seconds: float | None = None,
        fixed: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        """`seconds` replaces what the run's record says; `fixed` are keys that the command line sets."""
        record = read_record(folder)
        if record is None and seconds is None:
            raise RunError(f"{folder} has no {BUDGET}, and no BUDGET was given.")
        self.record = record or Record(seconds=seconds)
        if seconds is not None:
            self.record.seconds = seconds
        self._folder, self.reload, self._measure, self._clock = folder, reload, measure, clock
        self._log = set_up_logging()
        self._whole = reload([])
        self.bounds = {key: bound for key, bound in bounds_of(self._whole).items() if key not in fixed}
        self._check_bounds()
        self._began = clock()
        self._refused = False
        self._current: tuple[list[str], Profile] | None = None

    def _check_bounds(self) -> None:
        for which, share in (("least", 0), ("most", 1)):
            try:
                self.reload(overrides(self._values(share)))
            except ConfigError as error:
                raise ConfigError(
                    f"budget.bounds: with every key at its {which}, the profile is not valid. {error}"
                ) from None

    @property
    def used(self) -> float:
        """Seconds, over all commands."""
        return self.record.spent + self._clock() - self._began

    @property
    def measuring_s(self) -> float:
        """Seconds that measuring may take."""
        return min(LONGEST_MEASURING_S, MEASURING_SHARE * self.record.seconds)

    def save(self) -> None:
        """Writes the record; nothing of a budget that was refused, so that the next command starts without it."""
        if self._refused:
            return
        self.record.spent, self._began = self.used, self._clock()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._folder / BUDGET, self.record.model_dump_json(indent=1) + "\n")

    def chosen(self) -> list[str]:
        """What is settled so far, as overrides."""
        return overrides(self.record.chosen)

    def settle(
        self, stage: StageDefinition, left: Sequence[StageDefinition], scratch: Path, opened: OpenStage
    ) -> Profile:
        """The profile with the sizes of `stage`, chosen now unless it has begun before. `left`: the stages that are to
        run, this one included. Measures in the folder `scratch` at the first stage that can be made smaller.

        Raises ConfigError where the least sizes would take too long, before anything was trained.
        """
        if stage.id in MOVABLE and self.record.measured is None:
            self.record.measured = self._measure(
                self.measuring_s, self.reload, self.chosen(), self.bounds, scratch, opened
            )
            if CONCURRENCY in self.bounds:
                self.record.chosen[CONCURRENCY] = self.record.measured.max_sequences
        if stage.id in MOVABLE and self._open_keys(stage):
            self._choose(stage, left)
        self.save()
        if self._current is None or self._current[0] != self.chosen():
            self._current = self.chosen(), self.reload(self.chosen())
        return self._current[1]

    def ended(self, stage: StageDefinition, profile: Profile, took: float) -> None:
        """Notes how long a stage took, over all attempts."""
        if self.record.measured is not None:
            self.record.stages[stage.id] = (self._expected(profile, stage), took)
        self.save()

    def seconds_left(self, profile: Profile, left: Sequence[StageDefinition]) -> float | None:
        """Expected of these stages with the profile's sizes; None before anything was measured."""
        if self.record.measured is None:
            return None
        return sum(self._pace(stage) * self._expected(profile, stage) for stage in left)

    def _open_keys(self, stage: StageDefinition) -> list[str]:
        return [key for key in self.bounds if stage_of(key) == stage.id and key not in self.record.chosen]

    def _values(self, share: float) -> dict[str, int]:
        """Of what is not settled yet, at a share of the way from least to most; RL steps in whole rollouts."""
        values = values_at({k: b for k, b in self.bounds.items() if k not in self.record.chosen}, share)
        for key, value in values.items():
            if key.endswith(".grpo.max_steps"):
                steps = value_at(self._whole, key.removesuffix(".max_steps")).rollout_steps
                values[key] = max(self.bounds[key][0], value // steps * steps)
        return values

    def _choose(self, stage: StageDefinition, left: Sequence[StageDefinition]) -> None:
        """Settles the sizes of `stage`: those with which all that is left fits, when all stages are sized alike."""
        first = not any(map(stage_of, self.record.chosen))
        rest = self.record.seconds - self.used
        least, most = 0.0, 1.0
        if self._seconds_at(most, left) > rest:
            shortest = self._seconds_at(least, left)
            if shortest > rest:
                self._cannot_be_kept(shortest, left, first)
            for _ in range(HALVINGS):
                middle = (least + most) / 2
                least, most = (middle, most) if self._seconds_at(middle, left) <= rest else (least, middle)
            share = least
        else:
            share = most
        keys = self._open_keys(stage)
        profile = self._sized(share)
        if first:
            self._say_what_was_measured()
        expected = self.seconds_left(profile, left)
        self._log.info(
            "budget: %s of %s used, %s expected for %d stages, sized at %.0f %% of the way from least to most",
            duration(self.used), duration(self.record.seconds), duration(expected), len(left), 100 * share,
        )  # fmt: skip
        self.record.chosen |= {key: value for key, value in self._values(share).items() if key in keys}
        sizes = ", ".join(
            f"{key.removeprefix(f'stages.{stage.id}.').removeprefix('grpo.')} {self.record.chosen[key]} "
            f"({self.bounds[key][0]}–{self.bounds[key][1]})"
            for key in keys
        )
        if sizes:
            about = duration(self._pace(stage) * self._expected(profile, stage))
            self._log.info("budget: %s, about %s: %s", stage.id, about, sizes)

    def _say_what_was_measured(self) -> None:
        measured = self.record.measured
        self._log.info(
            "budget: measured here: %.3g s an RL step at the start, %.0f tokens a second written, %.0f trained%s",
            measured.step_s, 1 / measured.written_s, 1 / measured.trained_s,
            f", fastest with {CONCURRENCY} {measured.max_sequences}" if CONCURRENCY in self.bounds else "",
        )  # fmt: skip

    def _cannot_be_kept(self, shortest: float, left: Sequence[StageDefinition], first: bool) -> None:
        needed, given = duration(self.used + shortest), duration(self.record.seconds)
        if not first:
            self._log.warning(
                "budget: %s cannot be kept any more: with the least sizes the run takes about %s in all. It goes on "
                "with these", given, needed,
            )  # fmt: skip
            return
        self._refused = True
        (self._folder / BUDGET).unlink(missing_ok=True)
        profile = self._sized(0)
        longest = sorted(left, key=lambda stage: -self._expected(profile, stage))[:3]
        parts = ", ".join(f"{s.id} {duration(self._pace(s) * self._expected(profile, s))}" for s in longest)
        raise ConfigError(
            f"BUDGET={given} cannot be kept: with every size at its least, the ladder takes about {needed} on this "
            f"machine ({parts}). Give BUDGET={duration(60 * (1 + (self.used + shortest) // 60))} or more, lower "
            "budget.bounds, or make what has no bounds smaller, such as stages.evaluate.sets."
        )

    def _seconds_at(self, share: float, left: Sequence[StageDefinition]) -> float:
        return self.seconds_left(self._sized(share), left)

    def _sized(self, share: float) -> Profile:
        """The profile with what is settled, and the rest at a share of the way from least to most."""
        return with_values(self._whole, {**self.record.chosen, **self._values(share)})

    def _expected(self, profile: Profile, stage: StageDefinition) -> float:
        """Seconds with the profile's sizes, before they are corrected by what stages really took."""
        measured = self.record.measured
        work = work_of(profile, stage.id).seconds(measured.written_s, measured.trained_s)
        at_full_size = self._whole.takes_s.get(stage.id)
        if at_full_size is None:
            return work + (measured.start_s if work else 0.0)
        whole = work_of(self._whole, stage.id).seconds(measured.written_s, measured.trained_s)
        return at_full_size * (FIXED_SHARE + (1 - FIXED_SHARE) * (work / whole if whole else 1.0))

    def _pace(self, stage: StageDefinition) -> float:
        """How many times longer a stage takes here than expected: by the measured steps at first, then by the stages
        that ended, those of its kind and the last of them most."""
        step_s = self._whole.budget.step_s
        compared = step_s if self._whole.takes_s else None
        took = MEASURED_WEIGHT_S * (self.record.measured.step_s / compared if compared else 1.0)
        meant = MEASURED_WEIGHT_S
        for name, (expected, seconds) in self.record.stages.items():
            if STAGES[name].kind == stage.kind:
                took, meant = EARLIER * took + seconds, EARLIER * meant + expected
            else:
                took, meant = took + OTHER_KIND * seconds, meant + OTHER_KIND * expected
        return took / meant
