"""Where questions come from: `load` turns a profile's source into question rows."""

import ast
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator

from data_recipes.question import Question
from data_recipes.sources import pocket, puzzles
from data_recipes.sources.benchmarks import BenchmarkArgs, benchmark_questions, find_benchmark
from data_recipes.sources.endless import Span, distinct, wanted
from data_recipes.sources.gym_rows import entries_of
from data_recipes.sources.hub import HubArgs, read_hub
from data_recipes.sources.mapping import RowMapping, to_questions
from data_recipes.sources.tables import READERS
from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict

Recipe = Callable[[int | None, str, bool, Any], list[Question]]
"""(count, seed, held out, its args) -> questions."""
Args = TypeVar("Args", bound=Strict)


class CountdownArgs(Strict):
    numbers: Span = [3, 4]
    """How many numbers a question gives."""
    largest: int = Field(99, ge=1, le=10_000)
    target: Span = [10, 100]

    @field_validator("numbers")
    @classmethod
    def _is_a_puzzle(cls, numbers: list[int]) -> list[int]:
        if not 2 <= numbers[0] <= numbers[1] <= 8:
            raise ValueError(f"a puzzle has 2 to 8 numbers, not {numbers}")
        return numbers


def countdown(count: int | None, seed: str, held_out: bool, args: CountdownArgs) -> list[Question]:
    """Reach a target from some numbers, each used once; every question has a solution."""
    rng = random.Random(f"countdown {seed}")
    drawn = distinct(
        lambda: puzzles.sample_countdown(rng, tuple(args.numbers), args.largest, tuple(args.target), held_out),
        lambda puzzle: puzzle.key, count, "countdown",
    )  # fmt: skip
    return [
        Question(
            id=f"countdown {puzzle.key}",
            domain="reasoning",
            question=puzzles.ask_countdown(puzzle),
            answer=puzzle.solution,
            verifier="countdown",
            numbers=list(puzzle.numbers),
            target=puzzle.target,
        )
        for puzzle in drawn
    ]


def reasoning_gym(task: str, count: int | None, seed: str, held_out: bool, args: dict[str, Any]) -> list[Question]:
    """A task of the reasoning-gym package, scored by its own verifier; the task's name is the domain.

    Training and held-out questions come from disjoint ranges of the task's seeds.
    """
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ConfigError(f"'reasoning_gym:{task}' needs the package reasoning-gym. Run `make setup EXTRAS=puzzles`.")
    size = wanted(count, f"reasoning_gym:{task}")
    first = random.Random(f"reasoning_gym {task} {seed}").randrange(2**29) + (2**30 if held_out else 0)
    entries = entries_of(task, size, first, args)
    return [
        Question(
            id=f"{task} {first + index}",
            domain=task,
            question=entry["question"],
            answer=entry["answer"],
            verifier="reasoning_gym",
            metadata=_as_text(entry["metadata"]),
        )
        for index, entry in enumerate(entries)
    ]


def _as_text(metadata: dict[str, Any]) -> str:
    """Metadata as a column can hold it: a Python literal, which keeps tuples, or JSON where something is no literal."""
    text = repr(metadata)
    try:
        return text if ast.literal_eval(text) == metadata else json.dumps(metadata, default=str)
    except (ValueError, SyntaxError):
        return json.dumps(metadata, default=str)


RECIPES: dict[str, tuple[Recipe, type[Strict]]] = {
    "pocket_arithmetic": (pocket.pocket_arithmetic, pocket.ArithmeticArgs),
    "pocket_puzzles": (pocket.pocket_puzzles, pocket.PuzzleArgs),
    "pocket_reasoning": (pocket.pocket_reasoning, pocket.ReasoningArgs),
    "pocket_general": (pocket.pocket_general, pocket.RequestArgs),
    "pocket_harmless": (pocket.pocket_harmless, pocket.NoArgs),
    "countdown": (countdown, CountdownArgs),
}
"""Sources that generate questions without end, split them into training and held-out ones, and avoid duplicates."""
TOLD_APART = ("pocket_arithmetic", "pocket_puzzles", "pocket_reasoning", "countdown")
"""Recipes whose questions differ only in their numbers."""
FINITE = (*READERS, "hub", "benchmark")
KNOWN = (*RECIPES, *(f"{kind}:PATH" for kind in READERS), "hub:OWNER/NAME", "benchmark:NAME", "reasoning_gym:TASK")


def check_source(use: str) -> None:
    """Raises ConfigError where no source has that name."""
    scheme, colon, rest = use.partition(":")
    if use not in RECIPES and not (colon and rest and scheme in (*FINITE, "reasoning_gym")):
        raise ConfigError(f"No question source '{use}'. Sources: {', '.join(KNOWN)}.")
    if scheme == "benchmark":
        find_benchmark(rest)


def is_finite(use: str) -> bool:
    """Whether the source has so many rows and no more: a file or a data set."""
    return use.partition(":")[0] in FINITE


def local_file(use: str, args: dict[str, Any]) -> Path | None:
    """The file of the user's that the source reads, None where it reads none."""
    scheme, _, rest = use.partition(":")
    path = rest if scheme in READERS else args.get("path") if scheme == "benchmark" else None
    return Path(path) if path else None


def tells_apart(use: str) -> bool:
    """Whether all questions share one template and the source itself keeps training and held-out ones apart. If so,
    only exact duplicates count as duplicates."""
    return use in TOLD_APART or use.startswith("reasoning_gym:")


def load(
    use: str,
    count: int | None,
    seed: str,
    held_out: bool,
    args: dict[str, Any],
    domain: str | None = None,
    left_out: list[str] | None = None,
) -> list[Question]:
    """Question rows of one source. The same arguments give the same rows, and a larger count begins with them.

    `domain` is that of rows of a file or a data set which have none of their own; None: its name. Recipes and tasks
    give their questions a domain.
    `left_out` gets what is wrong with rows of a file that cannot be read.
    A finite source is shuffled, and is its own split: give held-out sets files of their own.
    Raises ConfigError for an unknown source, wrong arguments, or a bad file.
    """
    check_source(use)
    if is_finite(use):
        rows = load_finite(use, args, domain=domain, left_out=left_out)
        random.Random(f"{use} {seed}").shuffle(rows)
        return rows[:count]
    _, colon, rest = use.partition(":")
    if colon:
        return reasoning_gym(rest, count, seed, held_out, args)
    recipe, model = RECIPES[use]
    return recipe(count, seed, held_out, checked_args(use, model, args))


def load_finite(
    use: str,
    args: dict[str, Any],
    first: int | None = None,
    domain: str | None = None,
    left_out: list[str] | None = None,
) -> list[Question]:
    """Rows of a file or a data set in their own order; of one on the Hub at most `first`, the others unfetched."""
    rows = _finite_rows(use, args, first, domain, left_out)
    if not rows:
        raise ConfigError(f"{use} holds no rows. Expected one question a row.")
    return rows


def _finite_rows(
    use: str, args: dict[str, Any], first: int | None, domain: str | None, left_out: list[str] | None
) -> list[Question]:
    scheme, _, rest = use.partition(":")
    if scheme == "hub":
        hub = checked_args(use, HubArgs, args)
        return to_questions(read_hub(rest, hub, first), rest.rpartition("/")[2], hub, domain, left_out)
    if scheme == "benchmark":
        return benchmark_questions(rest, checked_args(use, BenchmarkArgs, args), first, domain)
    mapping = checked_args(use, RowMapping, args)
    return to_questions(READERS[scheme](Path(rest)), Path(rest).stem, mapping, domain, left_out)


def checked_args(use: str, model: type[Args], args: dict[str, Any]) -> Args:
    """The source's args, read strictly. Raises ConfigError naming the argument and what it may be."""
    try:
        return model.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "args"
        what = (
            f"is no argument. It takes: {', '.join(model.model_fields)}"
            if first["type"] == "extra_forbidden"
            else (f"is {first['input']!r:.80}. {first['msg'].removeprefix('Value error, ')}")
        )
        raise ConfigError(f"The source '{use}': args '{key}' {what}.") from None
