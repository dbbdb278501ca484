"""How many questions went into a recipe, how many came out, and why the others did not."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 3
"""Dropped questions kept for each reason."""
EXAMPLE_CHARACTERS = 200


@dataclass
class QuestionFunnel:
    """rows_in − dropped + repeated = rows_out."""

    rows_in: int = 0
    dropped: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    repeated: int = 0
    """Rows added by repeating those of a source that is smaller than its share."""
    rows_out: int = 0

    def drop(self, reason: str, example: str) -> None:
        self.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(example[:EXAMPLE_CHARACTERS])

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows_in": self.rows_in,
            "dropped": [
                {"reason": reason, "count": count, "examples": self.examples[reason]}
                for reason, count in self.dropped.most_common()
            ],
            "repeated": self.repeated,
            "rows_out": self.rows_out,
        }

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.dropped.most_common()) or "none"
        repeated = f", {self.repeated} repeated" if self.repeated else ""
        return f"{self.rows_in} questions in, {self.rows_out} out; dropped: {reasons}{repeated}"
