"""Taking completions apart, and the strict formats."""

import pytest

from rewards import RewardError, final_answer, load, split_response, votes
from rewards.grading.voting import answer_key

ZERO = "<think> a </think> <answer> 4 </answer>"
SUMMARY = "<think> a </think> The answer is 4."


def formatted(completion, shape="r1_zero", prompt="q", **args):
    return load("format", shape=shape, **args)(prompts=[prompt], completions=[completion])[0]


@pytest.mark.parametrize(
    ("text", "thinking", "answer", "well_formed"),
    [
        (ZERO, "a", "4", True),
        (SUMMARY, "a", "The answer is 4.", True),
        ("a </think> <answer> 4 </answer>", "a", "4", True),
        ("a </think> The answer is 4.", "a", "The answer is 4.", True),
        ("The answer is 4.", None, "The answer is 4.", False),
        ("<think> a", "a", "", False),
        ("<think> a </think>", "a", "", False),
        ("<think> a </think> <answer> 4", "a", "", False),
        ("<think> a <think> b </think> c </think> 4", "a <think> b \n c", "4", False),
        ("", None, "", False),
    ],
)
def test_a_completion_is_split_into_reasoning_and_answer(text, thinking, answer, well_formed):
    response = split_response(text)
    assert (response.thinking, response.answer, response.well_formed) == (thinking, answer, well_formed)


@pytest.mark.parametrize(("shape", "completion"), [("r1_zero", ZERO), ("r1", SUMMARY), ("r1_zero", f"\n{ZERO}\n")])
def test_a_clean_completion_has_its_shape(shape, completion):
    assert formatted(completion, shape) == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        SUMMARY,
        f"Sure! {ZERO}",
        f"{ZERO} Thank you.",
        f"{ZERO} {ZERO}",
        f"{ZERO} <answer> 5 </answer>",
        f"<think> b </think> {ZERO}",
        "<think> a <think> b </think> </think> <answer> 4 </answer>",
        "<think> a </think> so <answer> 4 </answer>",
        "<think> </think> <answer> 4 </answer>",
        "<think> a </think> <answer> </answer>",
        "<answer> 4 </answer> <think> a </think>",
        "<think> a <answer> 4 </answer> </think>",
        "<think> a </think> <answer> 4",
        "<think> a <answer> 4 </answer>",
        "<THINK> a </THINK> <ANSWER> 4 </ANSWER>",
        "<think> a </think> <answer> <answer> 4 </answer> </answer>",
        "",
    ],
)
def test_anything_before_after_or_twice_breaks_the_zero_shape(completion):
    assert formatted(completion) == 0.0


@pytest.mark.parametrize(
    "completion",
    [
        ZERO,
        f"Sure! {SUMMARY}",
        f"{SUMMARY} <think> b </think>",
        "<think> a </think>",
        "<think> </think> 4",
        "4",
        "<think> a",
    ],
)
def test_anything_before_after_or_twice_breaks_the_summary_shape(completion):
    assert formatted(completion, "r1") == 0.0


def test_a_prompt_that_opens_the_reasoning_counts_as_its_opening_tag():
    rest = ZERO.removeprefix("<think>")
    assert formatted(rest, prompt="q\nAssistant: <think>\n") == 1.0
    assert formatted(rest, think_prefilled=True) == 1.0
    assert formatted(rest) == 0.0
    assert formatted(ZERO, prompt="q <think>") == 0.0


def test_reasoning_that_the_prompt_opened_and_nothing_closed_is_no_answer():
    reward = load("accuracy")
    columns = {"verifier": ["exact"] * 2, "answer": ["4"] * 2}
    completions = ["so the answer is 4", "so </think> The answer is 4"]
    assert reward(prompts=["q <think>"] * 2, completions=completions, **columns) == [0.0, 1.0]
    assert reward(prompts=["q"] * 2, completions=completions, **columns) == [1.0, 1.0]


def test_chat_messages_are_read_like_plain_text():
    assert formatted([{"role": "assistant", "content": ZERO}]) == 1.0


def test_an_unknown_shape_is_refused_with_the_known_ones():
    with pytest.raises(RewardError, match="r1_zero or r1"):
        load("format", shape="r2")


def test_the_final_answer_is_none_without_an_answer_part():
    assert final_answer("<think> the answer is 4") is None
    assert final_answer(ZERO) == "4"


@pytest.mark.parametrize(
    ("one", "other", "verifier"),
    [("0.5", "\\frac{1}{2}", "math"), ("1,000", "1000", "exact"), ("(b)", "B", "choice"), ("x+1", "x + 1", "math")],
)
def test_equal_answers_vote_together(one, other, verifier):
    keys = {answer_key(f"<answer> {answer} </answer>", {"verifier": verifier}) for answer in (one, other)}
    assert len(keys) == 1 and None not in keys


def test_different_answers_do_not_vote_together():
    keys = [answer_key(f"<answer> {answer} </answer>", {"verifier": "math"}) for answer in ("1/2", "1/3", "50\\%", "x")]
    assert len(set(keys)) == 4


def test_tag_count_gives_a_quarter_for_each_tag_that_stands_once():
    count = load("tag_count")
    assert count(prompts=["q"] * 3, completions=[ZERO, SUMMARY, ZERO + ZERO]) == [1.0, 0.5, 0.0]


def test_reasoning_steps_stop_counting_at_enough():
    steps = load("reasoning_steps")
    texts = ["Step 1: a\nStep 2: b\nStep 3: c\nStep 4: d", "First, a. Then b.", "just words"]
    assert steps(prompts=["q"] * 3, completions=texts) == pytest.approx([1.0, 1 / 3, 0.0])


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (["0.5", "\\frac{1}{2}", "1/2", "50\\%"], 1),
        (["5 m", "5 cm", "500 cm", "5"], 2),
        (["x+1", "1 + x", "x + 2"], 2),
        (["2\\sqrt{3}", "\\sqrt{12}", "\\sqrt{13}"], 2),
        (["A", "a"], 2),
        (["1, 2", "2, 1", "(2, 1)"], 2),
    ],
)
def test_answers_that_are_equal_share_a_vote_and_others_never_do(answers, groups):
    row = {"verifier": "math", "answer": "1"}
    assert len(set(votes([f"<answer> {answer} </answer>" for answer in answers], row))) == groups


def test_a_completion_without_an_answer_has_no_vote():
    assert votes(["<think> a", "\\boxed{4}"], {"verifier": "math", "answer": "4"}) == [None, "4"]


def test_accuracy_takes_the_last_number_of_prose_only_where_it_is_asked_to():
    text, columns = "So he has 3 boxes of 14 pens, 42 in all", {"verifier": ["math"], "answer": ["42"]}
    assert load("accuracy")(prompts=["q"], completions=[text], **columns) == [0.0]
    assert load("accuracy", prose="last_number")(prompts=["q"], completions=[text], **columns) == [1.0]
    assert load("accuracy", prose="last_number")(prompts=["q"], completions=[f"\\boxed{{7}} {text}"], **columns) == [
        0.0
    ]
    with pytest.raises(RewardError, match="last_number"):
        load("accuracy", prose="first")
