"""Trying a reward before any training: `make check-reward REWARD=path/file.py:name`."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.table import Table

from pipeline.core.tables import print_table, standard_output
from rewards.contract import GivesVerdicts, RewardError, awaited, validated
from rewards.own.custom import CustomReward, one_row, pickle_fault
from rewards.own.samples import checked_row, columns_of, read_rows, sample_rows
from rewards.registry import built_in, load
from rewards.response import text_of

DEADLINE_S = 60.0
BUILT_IN_ROWS = (
    f"It was tried on the built-in rows, whose columns are {', '.join(columns_of(sample_rows()))}. "
    "Where it needs others, give rows of your own, a `completion` and the question's columns a line: "
    "make check-reward REWARD=… ROWS=FILE.jsonl."
)


def check(use: str, rows: Sequence[dict[str, Any]] | str | Path | None = None, **args: Any) -> int:
    """Run a reward on sample rows and print score, verdict and time of each; 0 if it keeps the contract, else 1.

    `rows` are rows with a `completion` each, or a JSONL file of them; None takes the built-in samples. The
    contract: one value a completion, float or None, no NaN; no dependence on the order of the batch; picklable.
    """
    console = standard_output()
    try:
        chosen = chosen_rows(rows)
        with made(use, args) as runner:
            return report(console, use, runner, columns_of(chosen))
    except RewardError as error:
        console.print(f"error: {error}", style="bold red")
        if rows is None:
            console.print(BUILT_IN_ROWS)
        return 1


@contextlib.contextmanager
def made(use: str, args: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """The reward; a user's own in a process of its own. Raises `RewardError` where it cannot be made."""
    if use in built_in():
        yield load(use, **args)
        return
    runner = CustomReward(use, args, DEADLINE_S)
    try:
        yield runner
    finally:
        runner.close()


def chosen_rows(rows: Sequence[dict[str, Any]] | str | Path | None) -> list[dict[str, Any]]:
    if rows is None:
        return sample_rows()
    if isinstance(rows, (str, Path)):
        return read_rows(Path(rows))
    return [checked_row(row, f"row {index}") for index, row in enumerate(rows)]


def report(console: Any, use: str, runner: Callable[..., Any], columns: dict[str, Any]) -> int:
    """Print the table and what the reward breaks."""
    scores = called(use, runner, columns)
    verdicts = (runner.verdicts if isinstance(runner, GivesVerdicts) else ()) or [None] * len(scores)
    milliseconds = [timed(use, runner, columns, index) for index in range(len(scores))]
    print_table(rows_table(use, map(text_of, columns["completions"]), scores, verdicts, milliseconds), console=console)
    unsendable = runner.pickle_fault if isinstance(runner, CustomReward) else pickle_fault(runner)
    faults = [fault for fault in (order_fault(use, runner, columns, scores), unsendable) if fault]
    for fault in faults:
        console.print(f"broken: {fault}", style="bold red")
    if not faults:
        console.print("contract kept: one float or None a completion, no NaN, no dependence on order, picklable")
    return 1 if faults else 0


def rows_table(
    use: str,
    texts: Iterable[str],
    scores: Sequence[float | None],
    verdicts: Sequence[Any],
    milliseconds: Sequence[float],
) -> Table:
    """What each row scored, with the beginning of its completion."""
    table = Table(title=f"{use} on {len(scores)} rows", title_justify="left")
    for heading in ("row", "score", "verdict", "ms alone"):
        table.add_column(heading, justify="left" if heading == "verdict" else "right", no_wrap=True)
    table.add_column("completion")
    for index, (text, score, verdict, spent) in enumerate(zip(texts, scores, verdicts, milliseconds, strict=True)):
        shown_score = "None" if score is None else f"{score:.4g}"
        table.add_row(str(index), shown_score, str(verdict or ""), f"{spent:.2f}", " ".join(text.split())[:60])
    return table


def called(use: str, runner: Callable[..., Any], columns: dict[str, Any]) -> list[float | None]:
    """The scores of the batch, checked."""
    state = SimpleNamespace(global_step=0, max_steps=1, epoch=0.0, num_train_epochs=1)
    try:
        scores = awaited(runner(**columns, trainer_state=state))
    except RewardError:
        raise
    except TypeError as error:
        raise RewardError(f"{use}: cannot be called with these columns: {error}") from error
    return validated(use, runner, scores, columns, len(columns["completions"]))


def timed(use: str, runner: Callable[..., Any], columns: dict[str, Any], index: int) -> float:
    """Measure the milliseconds that one row takes by itself."""
    began = time.perf_counter()
    called(use, runner, one_row(columns, index))
    return 1000 * (time.perf_counter() - began)


def order_fault(
    use: str, runner: Callable[..., Any], columns: dict[str, Any], scores: Sequence[float | None]
) -> str | None:
    """Report what changes when the batch is reversed, if anything."""
    turned = called(use, runner, {name: values[::-1] for name, values in columns.items()})[::-1]
    for index, (score, again) in enumerate(zip(scores, turned, strict=True)):
        same = score is again if score is None or again is None else math.isclose(score, again, abs_tol=1e-6)
        if not same:
            return (
                f"row {index} scores {score} in this order and {again} in the reverse: a score must not depend on order"
            )
    return None
