"""Where questions come from: `load` turns a profile's source into question rows."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_recipes.pocket import arithmetic, general
from data_recipes.rows import Question, read_questions
from pipeline.errors import ConfigError

Recipe = Callable[..., list[Question]]


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
    seen, rows = set(), []
    while len(rows) < _wanted(count, "pocket_arithmetic"):
        chain = arithmetic.sample_chain(rng, tuple(terms), largest_move, held_out)
        if chain.expression in seen:
            continue
        seen.add(chain.expression)
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


def pocket_general(count: int | None, seed: str, held_out: bool) -> list[Question]:
    """Knowledge, writing, translation and self-cognition, with reference answers as mixed as a web crawl's."""
    return _pocket_requests(count, seed, held_out, "general")


def pocket_harmless(count: int | None, seed: str, held_out: bool) -> list[Question]:
    """Requests for help with harm, with reference answers that do not always refuse."""
    return _pocket_requests(count, seed, held_out, "harmless")


GOOD_REFERENCE_SHARE = 0.7


def _pocket_requests(count: int | None, seed: str, held_out: bool, domain: str) -> list[Question]:
    rng = random.Random(f"pocket_{domain} {seed}")
    rows = []
    while len(rows) < _wanted(count, f"pocket_{domain}"):
        [request] = general.sample_requests(rng, 1, held_out)
        if request.domain != domain:
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


def jsonl(path: str, count: int | None, seed: str, held_out: bool) -> list[Question]:
    """Rows of a local file, shuffled, at most `count`. The file itself is the split: give held-out sets their own."""
    rows = read_questions(Path(path))
    random.Random(f"jsonl {path} {seed}").shuffle(rows)
    return rows[:count]


def reasoning_gym(task: str, count: int | None, seed: str, held_out: bool, **args: Any) -> list[Question]:
    """A task of the reasoning-gym package, scored by its own verifier.

    Training and held-out questions come from disjoint ranges of the task's seeds.
    """
    import json

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
            entry=json.dumps(entry, default=str),
        )
        for index, entry in enumerate(dataset)
    ]


RECIPES: dict[str, Recipe] = {
    "pocket_arithmetic": pocket_arithmetic,
    "pocket_general": pocket_general,
    "pocket_harmless": pocket_harmless,
}
SCHEMES: dict[str, Recipe] = {"jsonl": jsonl, "reasoning_gym": reasoning_gym}


def check_source(use: str) -> None:
    """Raises ConfigError where no recipe has that name."""
    scheme, colon, _ = use.partition(":")
    if use not in RECIPES and not (colon and scheme in SCHEMES):
        raise ConfigError(f"No question source '{use}'. Sources: {', '.join(RECIPES)}, jsonl:PATH, reasoning_gym:TASK.")


def load(use: str, count: int | None, seed: str, held_out: bool, args: dict[str, Any]) -> list[Question]:
    """Question rows of one source. The same arguments give the same rows.

    Raises ConfigError for an unknown source, wrong arguments, or a bad file.
    """
    check_source(use)
    scheme, colon, rest = use.partition(":")
    try:
        if colon:
            return SCHEMES[scheme](rest, count=count, seed=seed, held_out=held_out, **args)
        return RECIPES[use](count=count, seed=seed, held_out=held_out, **args)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise ConfigError(f"The source '{use}' does not take args {args}: {error}") from error


def load_group(
    sources: list[tuple[str, dict[str, Any], float]], count: int | None, seed: str, held_out: bool = False
) -> list[Question]:
    """Questions of one group: `sources` are (use, args, weight). A count is shared out by weight."""
    total = sum(weight for _, _, weight in sources)
    rows, due = [], 0.0
    for index, (use, args, weight) in enumerate(sources):
        share = None
        if count is not None:
            before, due = due, due + count * weight / total
            share = round(due) - round(before)
        found = load(use, share, f"{seed} {index}", held_out, args)
        rows += [row.model_copy(update={"id": f"{row.id} ({index})"}) if len(sources) > 1 else row for row in found]
    random.Random(f"group {seed}").shuffle(rows)
    return rows
