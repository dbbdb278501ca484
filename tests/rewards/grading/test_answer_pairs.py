"""Labelled pairs of gold and answer, half of them made by rules: no wrong answer is credited, no right one refused."""

import pytest

from benchmarks.answers import Pair, generated, ours, rates, written
from rewards import Verdict, judge_answer, judge_answers
from rewards.grading.answers import stated_answers

PAIRS = {"written": written(), "by rules": generated(12)}
PLACES = {
    "in a box": "<think> a </think> So it is $\\boxed{42}$.",
    "in a displayed box behind a phrase": "<think> a </think> Therefore, the answer is:\n\\[\n\\boxed{42}\n\\]",
    "in a display behind a phrase": "<think> a </think> The final answer is\n$$\n42\n$$",
    "behind a heading": "<think> a </think> We add.\n\n## Final Answer\n\n42",
    "behind hashes": "<think> a </think> 40 + 2 = 42\n#### 42",
    "with a clause": "<think> a </think> The answer is 42, which is even.",
    "with a reason in brackets": "<think> a </think> **Answer**: 42 (since 6 times 7 is 42)",
    "with a noun": "<think> a </think> The answer is **42** apples.",
    "in a sentence in the block": "<think> a </think> <answer> The total is 42. </answer>",
    "in Chinese": "<think> a </think> 故答案为：42。",
    "beside prose": "<think> a </think> Let me verify the answer: 40+2. The answer is clear. \\boxed{42}",
    "beside an empty box": "<think> a </think> \\boxed{} The answer is 42.",
    "nested": "<think> a </think> Final Answer: The final answer is $42$. I hope it is correct.",
    "behind boxes on the way": "<think> a </think> First \\boxed{7}, then \\boxed{9}.\nFinal Answer: $42$.",
    "in a formula of a sentence": "<think> a </think> <answer> Therefore we find that $x = 42$. </answer>",
    "behind headings of steps": "<think> a </think> #### Step 1\nAdd 40 and 2.\n#### Step 2\nSo \\boxed{42}.",
}
NOT_ANSWERS = {
    "denied": "The answer cannot be 42.",
    "called wrong": "A wrong answer is 42.",
    "a denied formula": "It is not $42$.",
    "a hedge of formulas": "It is $41$ or $42$.",
    "a range": "The answer is between 41 and 43.",
    "two answers": "The answer is 41. The answer is 42.",
    "a box against prose": "\\boxed{41} The answer is 42.",
    "an equation that is false": "\\boxed{41 = 42}",
    "taken back": "The answer is 42, or 43.",
    "every number": " ".join(f"\\boxed{{{number}}}" for number in range(50)),
}


@pytest.mark.parametrize("source", PAIRS)
def test_every_pair_is_judged_as_labelled(source):
    pairs = PAIRS[source]
    off = [pair for pair, credited in zip(pairs, ours(pairs), strict=True) if credited is not pair.right]
    assert not off


def test_the_corpus_is_large_and_half_of_it_made_by_rules():
    assert sum(map(len, PAIRS.values())) >= 1000
    assert min(map(len, PAIRS.values())) >= 500
    assert generated(12) == PAIRS["by rules"]


def test_rates_count_wrong_answers_that_were_credited_and_right_ones_that_were_refused():
    pairs = [Pair("1", "", right) for right in (True, True, False, False, False, False)]
    assert rates(pairs, [True, False, True, False, False, False]) == (0.25, 0.5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("answer", ["42", "41"])
def test_an_answer_is_found_where_models_put_it(place, answer):
    text = PLACES[place].replace("42", answer).replace("40", "X")
    verdict = judge_answer(text, {"verifier": "math", "answer": "42"})
    assert verdict is (Verdict.CORRECT if answer == "42" else Verdict.WRONG)


@pytest.mark.parametrize("text", NOT_ANSWERS.values(), ids=NOT_ANSWERS.keys())
def test_what_is_no_answer_is_not_paid(text):
    assert judge_answer(f"<think> a </think> {text}", {"verifier": "math", "answer": "42"}).score == 0


@pytest.mark.parametrize("text", ["The answer is - 31.", "**Final Answer:** - 31", "Answer: -31", "答案是 - 31。"])
def test_a_minus_apart_from_its_number_is_a_minus(text):
    verdicts = judge_answers(
        [f"<think> a </think> {text}"] * 2, [{"verifier": "math", "answer": g} for g in ("-31", "31")]
    )
    assert verdicts == [Verdict.CORRECT, Verdict.WRONG]


def test_a_dash_on_the_line_below_the_phrase_begins_an_item():
    for text in ("## Answer\n- 31", "The answer is:\n- 31\n"):
        assert judge_answer(f"<think> a </think> {text}", {"verifier": "math", "answer": "31"}) is Verdict.CORRECT


def test_members_of_a_list_may_stand_in_boxes_of_their_own():
    texts = ["\\boxed{4} and \\boxed{9}", "\\boxed{9}, \\boxed{4}", "\\boxed{4}", "\\boxed{4} and \\boxed{8}"]
    verdicts = judge_answers(texts, [{"verifier": "math", "answer": "4, 9"}] * 4)
    assert verdicts == [Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG, Verdict.WRONG]


@pytest.mark.parametrize(
    "gold", ["U.S.A.", "What?", '"yes"', "$5$", "not guilty", "J. R. R. Tolkien", "unknown", "`x`"]
)
def test_an_exact_gold_is_matched_by_itself_in_a_block_and_in_a_sentence(gold):
    row = {"verifier": "exact", "answer": gold}
    assert judge_answer(f"<answer> {gold} </answer>", row) is Verdict.CORRECT
    assert judge_answer(f"The answer is {gold}", row) is Verdict.CORRECT
    assert judge_answer("<answer> something else </answer>", row) is Verdict.WRONG


def test_half_a_percent_of_a_plain_number_counts_only_where_percent_may_be_asked():
    row = {"verifier": "math", "answer": "50"}
    assert judge_answer("\\boxed{50\\%}", row | {"question": "What percent is it?"}) is Verdict.CORRECT
    assert judge_answer("\\boxed{50\\%}", row | {"question": "How many are there?"}) is Verdict.WRONG


@pytest.mark.parametrize("gold", ["9" * 100_000, "(" * 50_000, "1," * 50_000, "\\frac{" * 20_000, "x^" * 40_000])
def test_a_gold_of_any_length_is_compared_as_text(gold):
    assert judge_answer("\\boxed{7}", {"verifier": "math", "answer": gold}).score != 1
    assert judge_answer(f"<answer> {gold} </answer>", {"verifier": "math", "answer": gold}).score in (0, 1, None)


@pytest.mark.parametrize("unit", ["answer: 42 ", "The answer is 42. ", "option B is right ", "A: 7\n", "答案是 42 "])
def test_no_more_phrases_are_read_than_could_all_be_right(unit):
    assert len(stated_answers(unit * 1000)) == len(stated_answers(unit * 300)) <= 100
