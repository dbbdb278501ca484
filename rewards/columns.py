"""The columns that TRL passes to a reward function, as rows and as groups."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewards.contract import RewardError
from rewards.response import text_of

FROM_TRAINER = (
    "prompts",
    "completions",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
    "environments",
    "self",
)
"""Keyword arguments that the trainer or Python itself passes to a reward: no column may have one of these names."""


def with_every_column(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give every row the columns of all rows, in one order; None where a row has no value.

    Rewards are called with columns, and rows of different sources have different ones: without this, the first row
    would decide which columns there are.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def as_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows as columns, one value a row; None where a row has none."""
    rows = with_every_column(rows)
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def taken_names(columns: Iterable[str]) -> list[str]:
    """List the columns that a reward cannot get, because the trainer passes something else under their names."""
    return [name for name in columns if name in FROM_TRAINER]


def rows_of(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """One question row a completion, from the columns that hold one value a completion."""
    names = [name for name, values in columns.items() if isinstance(values, (list, tuple)) and len(values) == count]
    return [{name: columns[name][index] for name in names} for index in range(count)]


def column(reward: str, columns: Mapping[str, Any], name: str) -> Sequence[Any]:
    """Return a required column. Raises RewardError where it is missing."""
    if columns.get(name) is None:
        raise RewardError(
            f"reward {reward}: the data has no column {name!r}; it has {', '.join(sorted(columns)) or 'none'}"
        )
    return columns[name]


def token_lengths(reward: str, completion_ids: Sequence[Sequence[int]] | None) -> list[int]:
    """Count the tokens of each completion. Raises RewardError without ids: characters are no substitute."""
    if completion_ids is None:
        raise RewardError(f"reward {reward} measures tokens: call it with completion_ids, one list of ids a completion")
    return [len(ids) for ids in completion_ids]


def groups_of(prompts: Sequence[Any], num_generations: int | None = None) -> list[list[int]]:
    """The indices of each group: completions of one prompt, in runs of at most `num_generations`."""
    members: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        members.setdefault(prompt if isinstance(prompt, str) else text_of(prompt), []).append(index)
    groups = []
    for indices in members.values():
        step = num_generations or len(indices)
        groups += [indices[start : start + step] for start in range(0, len(indices), step)]
    return groups
