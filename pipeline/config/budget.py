"""What `make all BUDGET=2h` may change of a profile, and how far."""

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.core.strict import Strict

Bound = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class BudgetSettings(Strict):
    """Bounds of a run that has to end in a given time."""

    bounds: dict[str, Bound] = {}
    """Key of the profile -> [least, most]: steps, group sizes, lengths, questions, `engine.max_sequences`. All but the
    last move together, from all least to all most. Empty: RL steps, group sizes and numbers of questions, from a part
    of the profile's value up to it."""
    step_s: float | None = Field(None, gt=0)
    """Seconds that one of the first steps of the first RL stage takes on the machine that `takes_s` is of. Without it
    times are estimated from tokens."""

    @model_validator(mode="after")
    def _least_comes_first(self) -> "BudgetSettings":
        for key, (least, most) in self.bounds.items():
            if least > most:
                raise ValueError(f"bounds.{key} is [{least}, {most}]. Expected [least, most]: swap them")
        return self
