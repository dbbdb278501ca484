"""The rewards of one training run: built from a profile, scheduled, limited to their domains, counted."""

import contextlib
import inspect
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.rewards import RewardSpec
from rewards.contract import Closes, GivesVerdicts, Prefetches, RewardError, awaited, validated
from rewards.grading.verdict import Verdict
from rewards.own.custom import CustomReward
from rewards.registry import built_in, find, load, located


@dataclass(frozen=True)
class RewardContext:
    """What rewards need to know about the run around them."""

    folder: Path = Path(".")
    """The folder that relative `file.py:name` paths start from."""
    num_generations: int | None = None
    """Completions per group; None: all completions of a prompt in a batch are one group."""
    allow_weak_sandbox: bool = False
    """Whether code may run below the full sandbox level."""


class RewardSet:
    """Every reward of a run, as TRL wants them: `functions` and `weights`, in the profile's order."""

    def __init__(self, specs: Sequence[RewardSpec], context: RewardContext | None = None):
        self.functions: list[RunReward] = []
        try:
            for spec in specs:
                reward = build(spec, context or RewardContext())
                self.functions.append(RunReward(spec, reward, self._unique(spec.name or name_of(reward))))
        except RewardError:
            self.close()  # those that were made have processes
            raise
        self.weights = [spec.weight for spec in specs]

    def _unique(self, name: str) -> str:
        taken = {function.__name__ for function in self.functions}
        numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
        return name if name not in taken else next(each for each in numbered if each not in taken)

    def close(self) -> None:
        """End the processes of custom rewards."""
        for function in self.functions:
            if isinstance(function.reward, Closes):
                function.reward.close()


def build(spec: RewardSpec, context: RewardContext) -> Callable[..., Any]:
    """The reward that a spec names; a custom one in a process of its own."""
    if spec.use not in built_in():
        use = located(spec.use, context.folder)
        return CustomReward(use, spec.args, spec.deadline_s, spec.on_error == "stop", spec.completions)
    if spec.completions != "auto":
        raise RewardError(
            f"reward {spec.use} is built in and reads texts and messages alike; leave `completions` out "
            f"(it is {spec.completions})"
        )
    takes = inspect.signature(find(spec.use)).parameters
    offered = {"num_generations": context.num_generations, "allow_weak_sandbox": context.allow_weak_sandbox}
    return load(spec.use, **{name: value for name, value in offered.items() if name in takes} | spec.args)


def name_of(reward: Callable[..., Any]) -> str:
    """The reward's name in every record of a run."""
    return getattr(reward, "__name__", type(reward).__name__)


class RunReward:
    """One reward as the trainer calls it: outside its schedule or domains it gives None, and it counts its verdicts."""

    def __init__(self, spec: RewardSpec, reward: Callable[..., Any], name: str):
        self.spec = spec
        self.reward = reward
        self.__name__ = name
        self.counted: Counter[Verdict] = Counter()
        self.verdicts: list[Verdict | None] = []
        """On each completion of the last call; empty where the reward gives none."""
        self.logged: dict[str, list[Any]] = {}
        """Values that the last call logged per completion (`log_extra`), by name; None where it logged none."""
        self.keeps_failure = False
        """Whether a `RewardError` is kept in `failure`, every completion unscored, instead of raised."""
        self.failure: RewardError | None = None

    @classmethod
    def of(cls, reward: Callable[..., Any]) -> "RunReward":
        """Wrap any function or object with TRL's signature; one that is wrapped already is returned unchanged."""
        if isinstance(reward, RunReward):
            return reward
        name = name_of(reward)
        return cls(RewardSpec(use=name), reward, name)

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        try:
            return self.scores(prompts, completions, columns)
        except RewardError as error:
            if not self.keeps_failure:
                raise
            self.failure = error
            return [None] * len(completions)

    def scores(self, prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]) -> list[float | None]:
        """One a completion; raises `RewardError` where the reward fails."""
        scores: list[float | None] = [None] * len(completions)
        gives_verdicts = isinstance(self.reward, GivesVerdicts)
        self.verdicts = [None] * len(completions) if gives_verdicts else []
        self.logged = {}
        factor = self.factor(columns)
        rows = self.applicable(len(completions), columns)
        if factor is None or not rows:
            return scores
        chosen = chosen_inputs(prompts, completions, columns, rows)
        chosen["log_extra"] = self.keeper(rows, len(completions), columns.get("log_extra"))
        for row, score in zip(rows, self.score(chosen), strict=True):
            scores[row] = None if score is None else factor * self.corrected(score)
        if gives_verdicts:
            for row, verdict in zip(rows, self.reward.verdicts, strict=False):
                self.verdicts[row] = verdict
            self.counted.update(verdict for verdict in self.verdicts if verdict is not None)
        return scores

    def corrected(self, score: float) -> float:
        """The score, corrected for the rates at which the reward is known to be wrong."""
        if self.spec.rates is None:
            return score
        if score not in (0, 1):
            raise RewardError(
                f"reward {self.spec.use} has `rates`, which correct scores of 0 and 1, and it gave {score:g}; leave "
                "`rates` out"
            )
        return self.spec.rates.corrected(score)

    def keeper(self, rows: Sequence[int], count: int, passed_on: Callable[[str, list[Any]], None] | None) -> Callable:
        """Make the `log_extra` that the reward gets: it keeps the values of `rows` and passes on the whole column.

        It raises `RewardError` unless there is one value for each of them.
        """

        def log_extra(name: str, values: Sequence[Any]) -> None:
            values = list(values)
            if len(values) != len(rows):
                raise RewardError(
                    f"reward {self.spec.use}: log_extra({name!r}, …) got {len(values)} values for {len(rows)} "
                    "completions; give one for each"
                )
            whole: list[Any] = [None] * count
            for row, value in zip(rows, values, strict=True):
                whole[row] = as_json(value)
            self.logged[name] = whole
            if passed_on is not None:
                passed_on(name, whole)

        return log_extra

    @property
    def prefetches(self) -> bool:
        """Whether the reward can start on completions before all are written."""
        return isinstance(self.reward, Prefetches)

    def prefetch(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> None:
        """Start scoring completions of a later call early, if the reward can. Does not change scores."""
        if not self.prefetches or self.factor(columns) is None:
            return
        rows = self.applicable(len(completions), columns)
        if rows:
            self.reward.prefetch(**chosen_inputs(prompts, completions, columns, rows))

    def score(self, inputs: dict[str, Any]) -> list[float | None]:
        """The reward's own scores, checked; a failing one stops the run, or is counted and skipped."""
        count = len(inputs["completions"])
        try:
            return validated(self.spec.use, self.reward, awaited(self.reward(**inputs)), inputs, count)
        except RewardError:
            if self.spec.on_error == "stop":
                raise
            self.counted[Verdict.SCORER_FAILED] += count
            if isinstance(self.reward, GivesVerdicts):
                self.reward.verdicts = []
            return [None] * count

    def factor(self, columns: dict[str, Any]) -> float | None:
        if self.spec.schedule is None:
            return 1.0
        state = columns.get("trainer_state")
        if state is None:
            raise RewardError(f"reward {self.spec.use} has a schedule, so it must be called with trainer_state")
        return self.spec.schedule.factor(state.global_step)

    def applicable(self, count: int, columns: dict[str, Any]) -> list[int]:
        """The rows that the reward applies to."""
        if self.spec.domains is None:
            return list(range(count))
        if columns.get("domain") is None:
            raise RewardError(f"reward {self.spec.use} is limited to domains, but the data has no column 'domain'")
        return [row for row in range(count) if columns["domain"][row] in self.spec.domains]


def as_json(value: Any) -> Any:
    """Convert a value for a JSON file: unchanged, as a plain Python number, or as text."""
    if callable(getattr(value, "item", None)):
        with contextlib.suppress(ValueError, RuntimeError, TypeError):  # an array of several
            value = value.item()
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value


def chosen_inputs(
    prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any], rows: Sequence[int]
) -> dict[str, Any]:
    """Cut the reward's arguments down to `rows`."""
    chosen = {name: chosen_rows(values, rows, len(completions)) for name, values in columns.items()}
    return {"prompts": [prompts[row] for row in rows], "completions": [completions[row] for row in rows]} | chosen


def chosen_rows(values: Any, rows: Sequence[int], count: int) -> Any:
    """Cut a column down to `rows`; anything that is not a column stays unchanged."""
    return [values[row] for row in rows] if isinstance(values, (list, tuple)) and len(values) == count else values
