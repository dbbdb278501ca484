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
"""Keyword arguments that a reward gets from the trainer or from Python itself: no column of a question may bear one."""


def with_every_column(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with the columns of all of them in one order; None where a row has no value of its own.

    Rows of several sources come with what their source has, and a reward is called with columns: without this, which
    columns there are would depend on which row happens to come first.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def as_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows as columns, one value a row; None where a row has none."""
    rows = with_every_column(rows)
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def taken_names(columns: Iterable[str]) -> list[str]:
    """The columns that cannot be handed to a reward, because the trainer gives it something else by that name."""
    return [name for name in columns if name in FROM_TRAINER]


def rows_of(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """One question row a completion, from the columns that hold one value a completion."""
    names = [name for name, values in columns.items() if isinstance(values, (list, tuple)) and len(values) == count]
    return [{name: columns[name][index] for name in names} for index in range(count)]


def column(reward: str, columns: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The column that a reward cannot do without."""
    if columns.get(name) is None:
        raise RewardError(
            f"reward {reward}: the data has no column {name!r}; it has {', '.join(sorted(columns)) or 'none'}"
        )
    return columns[name]


def token_lengths(reward: str, completion_ids: Sequence[Sequence[int]] | None) -> list[int]:
    """The length of each completion in tokens; characters are never a substitute."""
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
