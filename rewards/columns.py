"""The columns that TRL passes to a reward function, as rows and as groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.contract import RewardError
from rewards.response import text_of


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
