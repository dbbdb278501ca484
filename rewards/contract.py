"""The contract of a reward: one value a completion, each a finite float or None.

A reward must be a `Reward`, or any function or object written for TRL. What else it can do is declared by
`GivesVerdicts`, `JudgesAnswers`, `Prefetches` and `Closes`: inherit one, or have its members.
"""

import asyncio
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from numbers import Real
from typing import Any, ClassVar, Protocol, runtime_checkable


class Reward(ABC):
    """Scores completions. A built-in reward is a class in `rewards/builtin/` that inherits this and has a `name`."""

    name: ClassVar[str]

    @property
    def __name__(self) -> str:
        return self.name

    @abstractmethod
    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """Score each completion, in order: a finite number, or None where the reward does not apply.

        `prompts` and `completions` are texts or lists of chat messages, `completion_ids` the tokens of each completion.
        `columns` holds each column of the questions, one value a completion, None where a question lacks it; beside
        them `trainer_state` (its `global_step` is the step), `log_metric(name, value)` and `log_extra(name, values)`.
        Raises `RewardError` where it cannot score the batch.
        """


@runtime_checkable
class GivesVerdicts(Protocol):
    """A reward that also says why: the verdict on each completion of its last call."""

    verdicts: Sequence[StrEnum | None]
    """A `rewards.Verdict` a completion, None where there is none."""


@runtime_checkable
class Prefetches(Protocol):
    """A reward that can start on completions while others are still being written."""

    def prefetch(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> None:
        """Start on completions that a later call will hold. Called like the reward, from another thread, with one group
        at a time. It changes when scores are known, not what they are."""


@runtime_checkable
class Closes(Protocol):
    """A reward that owns processes, connections or memory."""

    def close(self) -> None:
        """Release them; the reward is not called again."""


class JudgesAnswers:
    """Marks a reward that compares answers, and so does not apply to a question without a gold answer."""


class RewardError(Exception):
    """A reward broke its contract, or its settings do not fit.

    The message names the file, the function, the row and the value, as far as each is known, and what to do.
    """


def awaited(scores: Any) -> Any:
    """Return a reward's scores, awaiting them if they are async, also inside a running event loop (a notebook)."""
    if not inspect.isawaitable(scores):
        return scores

    async def waited() -> Any:
        return await scores

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, waited()).result()


def validated(
    use: str, reward: Callable[..., Any], scores: Any, columns: Mapping[str, Any], count: int
) -> list[float | None]:
    """`scores` as floats and Nones. Raises `RewardError` that names the file, the function, the row and the value."""
    where = described(use, reward)
    if (
        isinstance(scores, (str, bytes, Mapping))
        or not hasattr(scores, "__len__")
        or not hasattr(scores, "__getitem__")
    ):
        raise RewardError(
            f"{where}: returned {shown(scores)}; expected a list of {count} floats or None, one a completion"
        )
    if len(scores) != count:
        raise RewardError(f"{where}: returned {len(scores)} values for {count} completions; expected one a completion")
    return [_number(score, where, index, columns) for index, score in enumerate(scores)]


def _number(score: Any, where: str, index: int, columns: Mapping[str, Any]) -> float | None:
    if score is None:
        return None
    plain = score.item() if hasattr(score, "item") and getattr(score, "ndim", 0) == 0 else score
    if not isinstance(plain, Real):
        raise RewardError(f"{where}: {row_name(index, columns)}: returned {shown(score)}; expected a float or None")
    if not math.isfinite(plain):
        raise RewardError(
            f"{where}: {row_name(index, columns)}: returned {plain}; expected a finite float, or None for a row "
            "that the reward does not apply to"
        )
    return float(plain)


def described(use: str, reward: Callable[..., Any]) -> str:
    """Name a reward for messages: file, line and name, as far as they are known."""
    target = inspect.unwrap(getattr(reward, "func", reward))
    code = getattr(target, "__code__", None) or getattr(getattr(type(target), "__call__", None), "__code__", None)  # noqa: B004
    place = f"{code.co_filename}:{code.co_firstlineno}" if code else "built in"
    name = getattr(reward, "__name__", None) or getattr(target, "__name__", type(target).__name__)
    return f"reward {use}: {place} {name}"


def row_name(index: int, columns: Mapping[str, Any]) -> str:
    """The row's place in the batch, and its id where it has one."""
    ids = columns.get("id")
    known = isinstance(ids, Sequence) and not isinstance(ids, str) and index < len(ids)
    return f"row {index} (id {ids[index]!r})" if known else f"row {index}"


def shown(value: Any) -> str:
    """A value and its type, short enough for a message."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<no repr: {type(error).__name__}>"
    return f"{text if len(text) <= 200 else text[:197] + '...'} ({type(value).__name__})"
