"""What recipes that generate questions without end have in common."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from pipeline.core.errors import ConfigError


def _rises(span: list[int]) -> list[int]:
    if len(span) != 2 or span[0] > span[1]:
        raise ValueError(f"{span} should be [least, most]")
    return span


Span = Annotated[
    list[int],
    BeforeValidator(lambda span: list(span) if isinstance(span, tuple) else span),
    AfterValidator(_rises),
]
"""[least, most], both included."""


def wanted(count: int | None, recipe: str) -> int:
    if count is None:
        raise ConfigError(f"The source '{recipe}' never ends: give the number of questions instead of null.")
    return count


MOST_REPEATS = 5_000
"""Draws in a row that give nothing new, before a recipe counts as exhausted."""


def distinct(draw: Callable[[], Any], key: Callable[[Any], str], count: int | None, recipe: str) -> Iterator[Any]:
    """`count` draws, none twice. Raises ConfigError where the recipe, with its arguments, does not have that many."""
    seen, repeats = set(), 0
    while len(seen) < wanted(count, recipe):
        drawn = draw()
        if key(drawn) not in seen:
            seen.add(key(drawn))
            repeats = 0
            yield drawn
        elif (repeats := repeats + 1) > MOST_REPEATS:
            raise ConfigError(
                f"The source '{recipe}' has about {len(seen)} different questions with these args, but {count} are "
                "asked for. Ask for fewer, or widen its args."
            )
