"""Answers that a verifier cannot read are found before training."""

import pytest

from data_recipes.cleaning.answers import unreadable_answers
from data_recipes.question import Question
from pipeline.core.errors import ConfigError
from rewards import Verdict, judge_answers
from rewards.grading.mathematics import is_usable_gold


def row(answer, verifier="math", **more):
    return Question(id="q", domain="d", question="?", answer=answer, verifier=verifier, **more)


@pytest.mark.parametrize(
    "good",
    [
        row("7"), row("\\frac{1}{2}"), row("x^2+1"), row("Paris"), row("(3, 4)"), row("50\\%"),
        row("4 - 2", "exact"), row("B", "choice"), row("C", "choice", choices=["a", "b", "c"]),
        row("(1 + 2) * 3", "countdown", numbers=[1, 2, 3], target=9), row(None, "countdown", numbers=[1, 2], target=3),
        row(None, "code", tests=["assert True"]), row(None), row(None, "none"), row("anything", "none"),
    ],
)  # fmt: skip
def test_a_usable_answer_passes(good):
    assert unreadable_answers([good]) == {}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row(""), "cannot be read"),
        (row("Tom has 2+3=<<2+3=5>>5 pens.\n#### 5"), "whole text"),
        (row("We first note that " + "and then " * 40 + "it is 5."), "whole text"),
        (row("the second one", "choice"), "cannot be read"),
        (row("1 + 2", "countdown", numbers=[1, 2], target=4), "not right"),
        (row("1 + 2", "countdown"), "cannot be read"),
        (row("print(1)", "code"), "no tests"),
        (row("print(1)", "code", tests="[{]"), "no tests"),
        (row("8", "reasoning_gym"), "cannot be read"),
    ],
)
def test_an_unusable_answer_is_told_with_the_reason(bad, why):
    assert why in unreadable_answers([bad])["q"]


def test_a_gold_is_told_to_be_usable_without_a_comparison_as_by_one():
    golds = ["7", "\\frac{1}{2}", "Paris", "x^2+1", "", "\\sqrt{2}, \\pi", "等腰三角形", "1" * 2000]
    told = [is_usable_gold(gold) for gold in golds]
    compared = judge_answers(["<answer>7919/104729</answer>"] * len(golds),
                             [{"verifier": "math", "answer": gold} for gold in golds])  # fmt: skip
    assert told == [verdict is not Verdict.GOLD_UNUSABLE for verdict in compared]
    assert is_usable_gold("\\sum_{k=1}^{5} k") is None


def test_an_unknown_verifier_is_a_mistake_of_the_profile():
    with pytest.raises(ConfigError, match="maths"):
        unreadable_answers([row("7", "maths")])
