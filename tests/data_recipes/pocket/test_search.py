"""Puzzles of the pocket world: one answer each, tries that end where they should, and a split by their numbers."""

import itertools
import random
import re

import pytest

from data_recipes.pocket import arithmetic, search
from data_recipes.pocket.corpus import CorpusSettings, documents
from data_recipes.question import Question
from data_recipes.sources import catalogue
from data_recipes.written.rewriting import rewrite_pocket
from pipeline.core.errors import ConfigError
from rewards import Verdict, judge_answer, language_share

PUZZLES = [search.sample_puzzle(random.Random(seed), (3, 4), 30, None) for seed in range(300)]


@pytest.mark.parametrize("held_out", [True, False])
def test_one_number_alone_leaves_the_target(held_out):
    rng = random.Random(0)
    for _ in range(300):
        puzzle = search.sample_puzzle(rng, (3, 4), 30, held_out)
        found = [left for left in puzzle.numbers if sum(puzzle.numbers) - left == puzzle.target]
        assert found == [puzzle.answer]
        assert puzzle.held_out is held_out


@pytest.mark.parametrize("language", arithmetic.LANGUAGES)
def test_one_who_persists_tries_in_order_up_to_the_answer(language):
    for puzzle in PUZZLES:
        text, answer, _ = search.reason(random.Random(1), puzzle, language)
        tried = [int(number) for number in re.findall(r"(\d+)[:：]", text)]
        assert answer == puzzle.answer == tried[-1]
        assert tried == list(puzzle.numbers[: puzzle.numbers.index(puzzle.answer) + 1])
        assert text.count(arithmetic.WAIT[language]) == len(tried) - 1


def test_one_who_gives_up_is_right_only_where_the_first_try_is():
    for puzzle in PUZZLES:
        text, answer, _ = search.reason(random.Random(1), puzzle, "en", persist=0.0)
        assert answer == puzzle.numbers[0] and arithmetic.WAIT["en"] not in text


def test_every_step_of_a_try_is_right_without_slips_and_a_hit_leaves_nothing():
    for puzzle in PUZZLES:
        text, _, _ = search.reason(random.Random(1), puzzle, "zh", switch=0.5)
        steps = re.findall(r"(\d+)-(\d+)(?:=(\d+)|<(0))", text)
        for value, number, left, negative in steps:
            assert int(number) > int(value) if negative else int(value) - int(number) == int(left)
        assert steps[-1][2] == "0"
        assert int(steps[0][0]) == puzzle.target


def test_the_order_of_the_numbers_does_not_move_a_puzzle_out_of_its_split():
    for puzzle in PUZZLES[:30]:
        for order in itertools.permutations(puzzle.numbers):
            for answer in order:
                assert search.Puzzle(order, answer).held_out == puzzle.held_out


def test_the_base_corpus_holds_no_held_out_puzzle():
    found = 0
    for prompt, rest in itertools.islice(documents(CorpusSettings(), 5), 3000):
        for listed in re.findall(r"\d+(?:(?:, |、)\d+){2,3}", prompt + rest):
            numbers = tuple(map(int, re.split(", |、", listed)))
            assert not search.Puzzle(numbers, numbers[0]).held_out
            found += 1
    assert found > 500


@pytest.mark.parametrize("language", arithmetic.LANGUAGES)
def test_a_search_in_two_languages_is_rewritten_into_the_questions(language):
    puzzle = search.Puzzle((26, 30, 4, 11), 30)
    row = Question(
        id="p", domain="reasoning", question=search.ask(random.Random(0), puzzle, language), answer="30",
        verifier="exact", language=language,
    )  # fmt: skip
    first, second = "试26：41-30=11。再算11-4=7。 Then 7-11<0。", " Wait, try 30: 41-26=15.再算15-4=11。再算11-11=0。"
    mixed = f"<think>{first}{second}</think><answer>30</answer>"
    text = rewrite_pocket(row, mixed)
    expected, _, _ = search.reason(random.Random(0), puzzle, language)
    assert text == f"<think>{arithmetic.OPENING[language]}{expected}</think>{arithmetic.SUMMARY[language].format(a=30)}"
    assert language_share(text, language) == 1.0
    assert judge_answer(text, row.columns()) is Verdict.CORRECT


@pytest.mark.parametrize(("share", "puzzles"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_reasoning_questions_are_chains_and_puzzles_in_the_asked_share(share, puzzles):
    rows = catalogue.load("pocket_reasoning", 40, "s", False, {"puzzle_share": share})
    assert len(rows) == len({row.id for row in rows}) == 40
    assert sum(row.id.startswith("puzzle ") for row in rows) == puzzles


def test_reasoning_questions_are_as_hard_as_asked():
    args = {"chains": {"terms": [7, 7], "languages": ["en"]}, "puzzles": {"numbers": [4, 4], "languages": ["zh"]}}
    for row in catalogue.load("pocket_reasoning", 40, "s", False, args):
        assert len(re.findall(r"\d+", row.id.split(" ")[1])) == (4 if row.id.startswith("puzzle ") else 7)
        assert row.language == ("zh" if row.id.startswith("puzzle ") else "en")


def test_puzzles_too_long_to_try_are_refused():
    with pytest.raises(ConfigError, match="3 or 4 numbers"):
        catalogue.load("pocket_puzzles", 3, "s", False, {"numbers": [3, 6]})
