"""Whatever a model writes: no scorer raises, hangs past its deadline, or gives anything but a verdict."""

import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards import Verdict, final_answer, judge_answer, judge_answers, language_share, load, split_response
from rewards.grading.number_words import read_number, same_number
from rewards.grading.voting import answer_key

MARKS = (
    "<think> </think> <answer> </answer> \\boxed{ } { $ \\( \\) 答案是 14 \\frac {1}{2} ^ ! or , ( ) [ ] \\pm \\sqrt 9"
)
MORE_MARKS = "% = x B ``` \u200b １ \\begin{pmatrix} & \\\\ \\text{ \\infty - . e / 0 + * \\ \x00"
FRAGMENTS = st.sampled_from([*MARKS.split(" "), *MORE_MARKS.split(" "), "The answer is ", "```python\n", "\n", " "])
TEXTS = st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=25).map("".join))
PLAIN_ROWS = [
    {"verifier": "exact", "answer": "14"},
    {"verifier": "choice", "answer": "B", "choices": ["1", "14"]},
    {"verifier": "countdown", "numbers": [1, 4], "target": 5},
]
HANG_S = 600.0
"""Ten times what the deadlines of a batch add up to."""
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(TEXTS)
def test_plain_verifiers_always_give_a_verdict(text):
    for row in PLAIN_ROWS:
        assert isinstance(judge_answer(text, row), Verdict)


@settings(FUZZ, max_examples=20)
@given(st.lists(TEXTS, min_size=5, max_size=5))
def test_mathematics_always_gives_a_verdict_and_never_hangs(texts):
    began = time.monotonic()
    answers = [f"<answer>{text}</answer>" for text in texts]
    verdicts = judge_answers(answers, [{"verifier": "math", "answer": "\\frac{\\sqrt{2}}{3}"}] * 5)
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert Verdict.CORRECT not in verdicts
    assert time.monotonic() - began < HANG_S


@settings(FUZZ, max_examples=30)
@given(TEXTS)
def test_any_gold_answer_gives_a_verdict(text):
    assert isinstance(judge_answer("<answer>\\frac{7}{2}</answer>", {"verifier": "math", "answer": text}), Verdict)


@FUZZ
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_string_rewards_give_one_finite_score_each_whatever_the_order(texts):
    ids = [[ord(character) for character in text] for text in texts]
    columns = {"language": ["en"] * len(texts), "verifier": ["exact"] * len(texts), "answer": ["14"] * len(texts)}
    for reward in (
        load("accuracy"),
        load("format"),
        load("format", shape="r1"),
        load("language"),
        load("tag_count"),
        load("reasoning_steps"),
        load("repetition", ngram_size=2),
        load("soft_overlong", max_tokens=50, cache_tokens=10),
        load("kimi_length"),
        load("cosine_length", max_tokens=50),
    ):
        scores = reward(prompts=["q"] * len(texts), completions=texts, completion_ids=ids, **columns)
        assert len(scores) == len(texts)
        assert all(score is None or math.isfinite(score) for score in scores)
        turned = reward(prompts=["q"] * len(texts), completions=texts[::-1], completion_ids=ids[::-1], **columns)
        assert turned[::-1] == scores


@FUZZ
@given(TEXTS)
def test_reading_a_completion_never_fails(text):
    response = split_response(text)
    assert response.answer == response.answer.strip()
    assert final_answer(text) is None or final_answer(text).strip()
    assert answer_key(text, {"verifier": "math"}) is None or isinstance(answer_key(text, {"verifier": "math"}), str)
    share = language_share(text, "zh")
    assert share is None or 0 <= share <= 1


@FUZZ
@given(TEXTS, TEXTS)
def test_reasoning_alone_never_gives_an_answer(thinking, more):
    unclosed = f"<think>{thinking.replace('</think>', '')}"
    assert final_answer(unclosed) is None
    assert final_answer(f"<think>{thinking}{more}</think>") is None


@FUZZ
@given(st.integers(-(10**12), 10**12))
def test_a_whole_number_equals_itself_in_every_notation(number):
    for written in (
        str(number),
        f"{number:,}",
        f"{number}.0",
        f"{2 * number}/2",
        f"\\frac{{{3 * number}}}{{3}}",
        f"{number}e0",
    ):
        assert (
            judge_answer(f"<answer>{written}</answer>", {"verifier": "math", "answer": str(number)}) is Verdict.CORRECT
        )


@FUZZ
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(1, 10**4))
def test_different_fractions_are_never_equal(one, other, denominator):
    gold, answer = read_number(f"{one}/{denominator}"), read_number(f"{other}/{denominator}")
    assert same_number(gold, answer) == (one == other)


@pytest.mark.parametrize(
    "text",
    [
        part * 200_000
        for part in (
            "<think>",
            "</think>",
            "<answer>",
            "answer is ",
            "\\boxed{",
            "$",
            "\\(",
            "{",
            "答案是",
            "```\n",
            "1,",
            "`a",
            "Step 1:",
        )
    ],
)
def test_reading_takes_time_linear_in_the_text(text):
    """Two hundred thousand repetitions would take minutes if any search were quadratic."""
    began = time.process_time()
    for row in [*PLAIN_ROWS, {"verifier": "code", "tests": [{"input": "", "output": "1"}]}]:
        judge_answer(text, row)
        judge_answer(f"<think> a </think> <answer> {text} </answer>", row)
    load("format")(prompts=["q"], completions=[text])
    load("reasoning_steps")(prompts=["q"], completions=[text])
    language_share(text, "en")
    assert time.process_time() - began < 20
