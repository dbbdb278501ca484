"""What a profile says about a reward."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.core.own_code import own_code
from pipeline.core.strict import Strict

SCORER = "stage:"
"""What the name of a scorer that the ladder trains begins with, as a reward's `model`: `stage:helpful`."""


class Schedule(Strict):
    """When a reward counts, in optimizer steps of the trainer (`trainer_state.global_step`)."""

    from_step: int = Field(0, ge=0)
    """The first step with the reward."""
    to_step: int | None = Field(None, ge=0)
    """The first step without it again; None is never."""
    ramp_steps: int = Field(0, ge=0)
    """Steps over which it grows from nothing after `from_step`, and shrinks to nothing before `to_step`, linearly."""

    @model_validator(mode="after")
    def _ordered(self) -> "Schedule":
        if self.to_step is not None and self.to_step <= self.from_step:
            raise ValueError(
                f"to_step {self.to_step} is not after from_step {self.from_step}, so the reward would never count; "
                "raise to_step or leave it out"
            )
        return self

    def factor(self, step: int) -> float | None:
        """What the reward is multiplied by at `step`, in [0, 1]; None outside the schedule."""
        if step < self.from_step or (self.to_step is not None and step >= self.to_step):
            return None
        if not self.ramp_steps:
            return 1.0
        rising = (step - self.from_step) / self.ramp_steps
        falling = 1.0 if self.to_step is None else (self.to_step - step) / self.ramp_steps
        return min(1.0, rising, falling)


class ErrorRates(Strict):
    """How often a reward of 0 or 1 is wrong, as `make audit-reward` estimates it."""

    false_credit: float = Field(0.0, ge=0, lt=1)
    """Of wrong answers, the share that gets 1."""
    false_refusal: float = Field(0.0, ge=0, lt=1)
    """Of right answers, the share that gets 0."""

    @model_validator(mode="after")
    def _says_something(self) -> "ErrorRates":
        if self.false_credit + self.false_refusal >= 1:
            raise ValueError(
                f"false_credit {self.false_credit} and false_refusal {self.false_refusal} add up to 1 or more, so the "
                "reward says nothing about the answer; give smaller rates, or another reward"
            )
        return self

    def corrected(self, score: float) -> float:
        """What the score is on average worth: backward correction for labels with known noise.

        Its mean over the noise is the true score (Natarajan and others, "Learning with Noisy Labels", 2013; for
        verifiers in RL: arXiv 2510.00915).
        """
        return (score - self.false_credit) / (1 - self.false_credit - self.false_refusal)


class RewardSpec(Strict):
    """One entry of a profile's `rewards`."""

    LATER: ClassVar[frozenset[str]] = frozenset({"completions", "name", "rates"})

    use: str
    """A built-in name, `path/file.py:name`, or `package.module:name`."""
    name: str | None = None
    """What it is called in the step table, the figures and the report; None is the name of the function or class."""
    weight: float = 1.0
    """Multiplies the score in the sum over rewards."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class or function."""
    schedule: Schedule | None = None
    """When the reward counts; None is always."""
    domains: list[str] | None = None
    """The `domain`s of the rows it applies to; None is all. Others get None."""
    rates: ErrorRates | None = None
    """How often its scores, which must be 0 or 1, are wrong: they are corrected for it, so that the mean reward is that
    of a reward without errors. None: they are taken as they are."""
    on_error: Literal["stop", "skip"] = "stop"
    """What to do when the reward itself fails: stop training, or count the failure and give None to the batch."""
    completions: Literal["auto", "text", "messages"] = "auto"
    """What a reward of yours gets: texts, or lists of chat messages as TRL gives them for chats. `auto`: what the
    annotation of its `completions` says, else what it accepts, texts first."""
    deadline_s: float = Field(60.0, gt=0)
    """Seconds for one batch of a custom reward, from when it starts."""

    def own_files(self) -> dict[str, Path]:
        """Its code with what that imports, and the files and folders among its arguments."""
        return {str(path): path for path in (*own_code(self.use), *files_in(self.args))}

    @property
    def scorer(self) -> str | None:
        """The scorer of the ladder's own that it takes its scores from; None for any other reward."""
        return scorer_named(self.args)


def scorer_named(args: Mapping[str, Any]) -> str | None:
    """The scorer of the ladder's own that the arguments of a reward name as `model`, None where they name none."""
    model = args.get("model")
    return model.removeprefix(SCORER) if isinstance(model, str) and model.startswith(SCORER) else None


def files_in(value: Any) -> Iterator[Path]:
    """The files, and the folders written with a slash, that texts among the arguments of a reward name."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        yield from files_in(item)
    if isinstance(value, str) and value.isprintable():
        path = Path(value).expanduser()
        try:
            if path.is_file() or ("/" in value and path.is_dir()):
                yield path
        except OSError:  # too long for a path
            return
