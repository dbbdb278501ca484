"""The question row."""

from typing import Any

from pydantic import ConfigDict, Field

from pipeline.core.strict import Strict


class Question(Strict):
    """One question. Keys beside these (`numbers`, `target`, `tests`, …) are kept and reach the verifier."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1)
    domain: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str | None
    """What the verifier compares with; None where no rule can tell (general questions)."""
    verifier: str
    language: str = "en"
    response: str | None = None
    """A whole reference answer, for SFT rows that are not sampled."""
    ask: str | None = None
    """How the question is put to the model, with `{question}`; None asks it as it is."""

    @property
    def asked(self) -> str:
        return asked(self.question, self.ask)

    @property
    def whole(self) -> str:
        """The question, and where it does not say them itself its choices, numbers and target: what tells it from
        another in the same words."""
        row = self.columns()
        parts = [row.get("choices") or [], row.get("numbers") or [], [row.get("target")]]
        told = [str(one) for part in parts if isinstance(part, list | tuple) for one in part if one is not None]
        return " ".join([self.question, *(one for one in told if one not in self.question)])

    def columns(self) -> dict[str, Any]:
        """The row as a reward function gets it, one column each."""
        return self.model_dump()


def asked(question: str, ask: str | None) -> str:
    """The question as the model gets it."""
    return question if ask is None else ask.replace("{question}", question, 1)
