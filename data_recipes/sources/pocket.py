"""Question rows of the pocket world: chains of sums, puzzles that are solved by trying, and general requests."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from data_recipes.pocket import arithmetic, general, search
from data_recipes.question import Question
from data_recipes.sources.endless import Span, distinct, wanted
from pipeline.core.strict import Strict


class ArithmeticArgs(Strict):
    terms: Span = list(arithmetic.TERMS)
    """Numbers in a chain."""
    largest_move: int = Field(arithmetic.LARGEST_MOVE, ge=1, le=99)
    languages: list[Literal["en", "zh"]] = Field(list(arithmetic.LANGUAGES), min_length=1)

    @field_validator("terms")
    @classmethod
    def _is_a_chain(cls, terms: list[int]) -> list[int]:
        if not 2 <= terms[0] <= terms[1] <= 20:
            raise ValueError(f"a chain has 2 to 20 numbers, not {terms}")
        return terms


class PuzzleArgs(Strict):
    numbers: Span = list(search.NUMBERS)
    """Numbers in a puzzle."""
    largest: int = Field(search.LARGEST, ge=4, le=99)
    languages: list[Literal["en", "zh"]] = Field(list(arithmetic.LANGUAGES), min_length=1)

    @field_validator("numbers")
    @classmethod
    def _is_a_puzzle(cls, numbers: list[int]) -> list[int]:
        if not 3 <= numbers[0] <= numbers[1] <= 4:
            raise ValueError(f"a puzzle has 3 or 4 numbers, not {numbers}")
        return numbers


class ReasoningArgs(Strict):
    chains: ArithmeticArgs = ArithmeticArgs()
    puzzles: PuzzleArgs = PuzzleArgs()
    puzzle_share: float = Field(0.5, ge=0, le=1)
    """The rest are chains."""


class RequestArgs(Strict):
    languages: list[Literal["en", "zh"]] = Field(list(arithmetic.LANGUAGES), min_length=1)


class NoArgs(Strict):
    """Of a recipe that takes none."""


def pocket_arithmetic(count: int | None, seed: str, held_out: bool, args: ArithmeticArgs) -> list[Question]:
    """Chains of additions and subtractions, no expression twice."""
    rng = random.Random(f"pocket_arithmetic {seed}")
    rows = []
    chains = distinct(
        lambda: arithmetic.sample_chain(rng, tuple(args.terms), args.largest_move, held_out),
        lambda chain: chain.expression, count, "pocket_arithmetic",
    )  # fmt: skip
    for chain in chains:
        language = rng.choice(tuple(args.languages))
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


def pocket_puzzles(count: int | None, seed: str, held_out: bool, args: PuzzleArgs) -> list[Question]:
    """Which number to leave out so that the others add up to a target; no puzzle twice, in any order."""
    rng = random.Random(f"pocket_puzzles {seed}")
    rows = []
    puzzles = distinct(
        lambda: search.sample_puzzle(rng, tuple(args.numbers), args.largest, held_out),
        lambda puzzle: puzzle.key, count, "pocket_puzzles",
    )  # fmt: skip
    for puzzle in puzzles:
        language = rng.choice(tuple(args.languages))
        rows.append(
            Question(
                id=f"puzzle {puzzle.key}",
                domain="reasoning",
                question=search.ask(rng, puzzle, language),
                answer=str(puzzle.answer),
                verifier="exact",
                language=language,
            )
        )
    return rows


def pocket_reasoning(count: int | None, seed: str, held_out: bool, args: ReasoningArgs) -> list[Question]:
    """Chains and puzzles in turn, by their shares, as `pocket_arithmetic` and `pocket_puzzles` draw them."""
    puzzles_up_to = [int(number * args.puzzle_share) for number in range(wanted(count, "pocket_reasoning") + 1)]
    puzzles = iter(pocket_puzzles(puzzles_up_to[-1], seed, held_out, args.puzzles))
    chains = iter(pocket_arithmetic(count - puzzles_up_to[-1], seed, held_out, args.chains))
    return [next(puzzles if after > before else chains) for before, after in pairwise(puzzles_up_to)]


def pocket_general(count: int | None, seed: str, held_out: bool, args: RequestArgs) -> list[Question]:
    """Knowledge, writing, translation and self-cognition, with reference answers as mixed as a web crawl's."""
    return _pocket_requests(count, seed, held_out, "general", args.languages)


def pocket_harmless(count: int | None, seed: str, held_out: bool, args: NoArgs) -> list[Question]:
    """Requests for help with harm, with reference answers that do not always refuse."""
    return _pocket_requests(count, seed, held_out, "harmless", arithmetic.LANGUAGES)


GOOD_REFERENCE_SHARE = 0.7


def _pocket_requests(
    count: int | None, seed: str, held_out: bool, domain: str, languages: Sequence[str]
) -> list[Question]:
    rng = random.Random(f"pocket_{domain} {seed}")
    rows = []
    while len(rows) < wanted(count, f"pocket_{domain}"):
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
