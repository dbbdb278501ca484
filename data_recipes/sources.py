"""Where questions come from: `load` turns a profile's source into question rows."""

import ast
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from data_recipes import puzzles
from data_recipes.benchmarks import BenchmarkArgs, benchmark_questions, find_benchmark
from data_recipes.hub import HubArgs, read_hub
from data_recipes.mapping import RowMapping, to_questions
from data_recipes.pocket import arithmetic, general
from data_recipes.rows import Question
from data_recipes.tables import READERS
from pipeline.errors import ConfigError
from pipeline.strict import Strict

Recipe = Callable[..., list[Question]]
Args = TypeVar("Args", bound=Strict)


def pocket_arithmetic(
    count: int | None,
    seed: str,
    held_out: bool,
    terms: tuple[int, int] = arithmetic.TERMS,
    largest_move: int = arithmetic.LARGEST_MOVE,
    languages: tuple[str, ...] = arithmetic.LANGUAGES,
) -> list[Question]:
    """Chains of additions and subtractions, no expression twice."""
    rng = random.Random(f"pocket_arithmetic {seed}")
    rows = []
    chains = _distinct(
        lambda: arithmetic.sample_chain(rng, tuple(terms), largest_move, held_out),
        lambda chain: chain.expression, count, "pocket_arithmetic",
    )  # fmt: skip
    for chain in chains:
        language = rng.choice(tuple(languages))
        rows.append(
            Question(
                id=f"chain {chain.expression}",
                domain="reasoning",
                question=arithmetic.ask(rng, chain, language),
                answer=str(chain.answer),
                verifier="exact",
                language=language,
            )
        )
    return rows


def pocket_general(
    count: int | None, seed: str, held_out: bool, languages: tuple[str, ...] = arithmetic.LANGUAGES
) -> list[Question]:
    """Knowledge, writing, translation and self-cognition, with reference answers as mixed as a web crawl's."""
    return _pocket_requests(count, seed, held_out, "general", languages)


def pocket_harmless(count: int | None, seed: str, held_out: bool) -> list[Question]:
    """Requests for help with harm, with reference answers that do not always refuse."""
    return _pocket_requests(count, seed, held_out, "harmless", arithmetic.LANGUAGES)


GOOD_REFERENCE_SHARE = 0.7


def _pocket_requests(
    count: int | None, seed: str, held_out: bool, domain: str, languages: Sequence[str]
) -> list[Question]:
    if not set(languages) & set(arithmetic.LANGUAGES):
        raise ConfigError(f"pocket_{domain} has no questions in {languages}. Its languages are en and zh.")
    rng = random.Random(f"pocket_{domain} {seed}")
    rows = []
    while len(rows) < _wanted(count, f"pocket_{domain}"):
        [request] = general.sample_requests(rng, 1, held_out)
        if request.domain != domain or request.language not in languages:
            continue
        answer = general.good_answer if rng.random() < GOOD_REFERENCE_SHARE else general.poor_answer
        rows.append(
            Question(
                id=f"{domain} {len(rows)}",
                domain=domain,
                question=request.text,
                answer=None,
                verifier="none",
                language=request.language,
                response=f"<think>{general.thought(request)}</think>{answer(rng, request)}",
            )
        )
    return rows


def _wanted(count: int | None, recipe: str) -> int:
    if count is None:
        raise ConfigError(f"The source '{recipe}' never ends: give the number of questions instead of null.")
    return count


MOST_REPEATS = 5_000
"""Draws in a row that give nothing new, before a recipe counts as exhausted."""


def _distinct(draw: Callable[[], Any], key: Callable[[Any], str], count: int | None, recipe: str) -> Iterator[Any]:
    """`count` draws, none twice. Raises ConfigError where the recipe, with its arguments, does not have that many."""
    seen, repeats = set(), 0
    while len(seen) < _wanted(count, recipe):
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


def countdown(
    count: int | None,
    seed: str,
    held_out: bool,
    numbers: tuple[int, int] = (3, 4),
    largest: int = 99,
    target: tuple[int, int] = (10, 100),
) -> list[Question]:
    """Reach a target from `numbers[0]` to `numbers[1]` numbers, each used once; every question has a solution."""
    rng = random.Random(f"countdown {seed}")
    drawn = _distinct(
        lambda: puzzles.sample_countdown(rng, tuple(numbers), largest, tuple(target), held_out),
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


def reasoning_gym(task: str, count: int | None, seed: str, held_out: bool, **args: Any) -> list[Question]:
    """A task of the reasoning-gym package, scored by its own verifier.

    Training and held-out questions come from disjoint ranges of the task's seeds.
    """
    try:
        import reasoning_gym as gym
    except ImportError as error:
        raise ConfigError(
            f"'reasoning_gym:{task}' needs the package reasoning-gym ({error}). Run `make setup`."
        ) from error
    size = _wanted(count, f"reasoning_gym:{task}")
    first = random.Random(f"reasoning_gym {task} {seed}").randrange(2**29) + (2**30 if held_out else 0)
    try:
        dataset = gym.create_dataset(task, size=size, seed=first, **args)
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"'reasoning_gym:{task}' with {args}: {error}") from error
    return [
        Question(
            id=f"{task} {first + index}",
            domain=task,
            question=entry["question"],
            answer=entry["answer"],
            verifier="reasoning_gym",
            metadata=_as_text(entry["metadata"]),
        )
        for index, entry in enumerate(dataset)
    ]


def _as_text(metadata: dict[str, Any]) -> str:
    """Metadata as a column can hold it: a Python literal, which keeps tuples, or JSON where something is no literal."""
    text = repr(metadata)
    try:
        return text if ast.literal_eval(text) == metadata else json.dumps(metadata, default=str)
    except (ValueError, SyntaxError):
        return json.dumps(metadata, default=str)


RECIPES: dict[str, Recipe] = {
    "pocket_arithmetic": pocket_arithmetic,
    "pocket_general": pocket_general,
    "pocket_harmless": pocket_harmless,
    "countdown": countdown,
}
"""Sources that never end, told apart into training and held-out questions, and that see to their own duplicates."""
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


def load(use: str, count: int | None, seed: str, held_out: bool, args: dict[str, Any]) -> list[Question]:
    """Question rows of one source. The same arguments give the same rows, and a larger count begins with them.

    A finite source is shuffled, and is its own split: give held-out sets files of their own.
    Raises ConfigError for an unknown source, wrong arguments, or a bad file.
    """
    check_source(use)
    if is_finite(use):
        rows = load_finite(use, args)
        random.Random(f"{use} {seed}").shuffle(rows)
        return rows[:count]
    _, colon, rest = use.partition(":")
    try:
        if colon:
            return reasoning_gym(rest, count=count, seed=seed, held_out=held_out, **args)
        return RECIPES[use](count=count, seed=seed, held_out=held_out, **args)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise ConfigError(f"The source '{use}' does not take args {args}: {error}") from error


def load_finite(use: str, args: dict[str, Any], first: int | None = None) -> list[Question]:
    """Rows of a file or a data set in their own order; of one on the Hub at most `first`, the others unfetched."""
    rows = _finite_rows(use, args, first)
    if not rows:
        raise ConfigError(f"{use} holds no rows. Expected one question a row.")
    return rows


def _finite_rows(use: str, args: dict[str, Any], first: int | None) -> list[Question]:
    scheme, _, rest = use.partition(":")
    if scheme == "hub":
        hub = checked_args(use, HubArgs, args)
        return to_questions(read_hub(rest, hub, first), rest.rpartition("/")[2], hub)
    if scheme == "benchmark":
        return benchmark_questions(rest, checked_args(use, BenchmarkArgs, args), first)
    return to_questions(READERS[scheme](Path(rest)), Path(rest).stem, checked_args(use, RowMapping, args))


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
