"""pass@1, its interval and cons@k against cases worked out by hand."""

import dataclasses
import itertools

import pytest

from data_recipes.question import Question
from pipeline.core.errors import RunError
from pipeline.engines import Completion
from pipeline.steps.evaluation import Sample, consensus_at, interval, score_samples, summarise


def sample(score: float | None, vote: str | None, question: str = "q") -> Sample:
    return Sample(question, score, "", vote, True, 1.0, 10, False, "")


def test_pass_at_1_is_the_mean_over_questions():
    groups = [[sample(1, "a"), sample(0, "b")], [sample(1, "a"), sample(1, "a")]]
    assert summarise(groups, [])["pass@1"] == pytest.approx(0.75)


def test_samples_that_no_scorer_could_judge_are_counted_apart_not_as_wrong():
    groups = [[sample(1, "a"), sample(None, None)], [sample(None, None)]]
    figures = summarise(groups, [])
    assert figures["pass@1"] == 1.0
    assert figures["unjudged"] == 2


def test_consensus_takes_the_most_frequent_answer():
    assert consensus_at([sample(1, "7"), sample(1, "7"), sample(0, "8")], 3) == 1.0
    assert consensus_at([sample(1, "7"), sample(0, "8"), sample(0, "8")], 3) == 0.0


def test_a_tie_counts_as_the_share_of_right_answers_among_the_leaders():
    assert consensus_at([sample(1, "7"), sample(0, "8")], 2) == 0.5
    assert consensus_at([sample(1, "7"), sample(0, "8"), sample(0, "9")], 3) == pytest.approx(1 / 3)


def test_samples_without_an_answer_do_not_vote():
    assert consensus_at([sample(1, "7"), sample(0, None), sample(0, None)], 3) == 1.0
    assert consensus_at([sample(0, None), sample(0, None)], 2) == 0.0


def test_consensus_does_not_fall_as_k_grows_where_the_right_answer_leads():
    group = [sample(1, "7")] * 9 + [sample(0, str(n)) for n in range(7)]
    values = [consensus_at(group, k) for k in (1, 2, 4, 8, 16)]
    assert values == sorted(values)
    assert values[-1] == 1.0


def test_consensus_at_1_is_pass_at_1():
    group = [sample(1, "7"), sample(0, "8"), sample(0, "8"), sample(1, "7"), sample(1, "7")]
    assert consensus_at(group, 1) == pytest.approx(0.6)


def test_consensus_of_two_is_that_of_one_since_a_tie_is_shared():
    group = [sample(1, "7")] * 40 + [sample(0, "8")] * 24
    assert consensus_at(group, 2) == pytest.approx(consensus_at(group, 1))


def test_consensus_does_not_fall_over_questions_of_uneven_luck():
    """The right answer leads in each, narrowly: the errors of the draws must not hide the rise."""
    groups = [[sample(1, "7", f"q{n}")] * 36 + [sample(0, "8", f"q{n}")] * 28 for n in range(20)]
    figures = summarise(groups, [1, 2, 4, 8, 16, 32, 64])
    values = [figures[f"cons@{k}"] for k in (1, 2, 4, 8, 16, 32, 64)]
    assert all(later >= earlier - 0.02 for earlier, later in itertools.pairwise(values))
    assert values[-1] == 1.0


def test_an_unjudged_sample_abstains_and_keeps_its_question_in_every_k():
    groups = [[sample(1, "7", "a")] * 3 + [sample(None, "9", "a")], [sample(0, "8", "b")] * 4]
    figures = summarise(groups, [2, 4])
    assert figures["cons@4"] == 0.5
    assert figures["cons@2"] == pytest.approx(0.5)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_pass_at_k_is_the_chance_of_a_right_one_among_k_of_them(k):
    """Against every choice of k of six samples, two of them right."""
    group = [sample(1, "7")] * 2 + [sample(0, "8")] * 4
    choices = list(itertools.combinations(group, k))
    expected = sum(any(s.score for s in chosen) for chosen in choices) / len(choices)
    figures = summarise([group, [sample(0, "8")] * 6], [k])
    assert figures[f"pass@{k}"] == pytest.approx(expected / 2)


def test_pass_at_k_rises_with_k_over_the_same_questions_and_leaves_the_unjudged_out():
    groups = [[sample(1, "7", "a")] * 3 + [sample(0, "8", "a")] * 5, [sample(1, "7", "b"), sample(None, "9", "b")] * 4]
    figures = summarise(groups, [1, 2, 4, 8])
    assert figures["pass@1"] == pytest.approx((3 / 8 + 1) / 2), "over both questions"
    rising = [figures[f"pass@{k}"] for k in (2, 4, 8)]
    assert rising == sorted(rising) and rising[-1] == 1.0
    assert rising[0] == pytest.approx(1 - 10 / 28), "over the one with eight judged samples"


def test_a_grade_has_no_pass_at_k():
    graded = [dataclasses.replace(sample(1, None), verdict="quality")] * 4
    assert not {"pass@2", "pass@4"} & summarise([graded], [2, 4]).keys()


def test_where_nothing_could_be_judged_there_is_no_figure():
    with pytest.raises(RunError, match="None of 2 answers could be judged"):
        summarise([[sample(None, None), sample(None, None)]], [])


def test_consensus_is_left_out_where_there_are_too_few_samples():
    assert "cons@4" not in summarise([[sample(1, "7"), sample(1, "7")]], [4])


def test_the_interval_of_single_samples_is_wilsons():
    low, high = interval([1.0] * 8 + [0.0] * 2)
    # Wilson's for 8 of 10 is (0.490, 0.943); the effective number of trials is 9, as the variance is unbiased.
    assert (low, high) == pytest.approx((0.474, 0.948), abs=0.005)


def test_the_interval_at_the_edge_still_has_a_width():
    low, high = interval([1.0] * 20)
    assert high == 1.0
    assert low == pytest.approx(0.839, abs=0.001)  # Wilson for 20 of 20


def test_many_samples_of_few_questions_do_not_narrow_the_interval():
    few_questions = interval([1.0, 0.0, 1.0, 0.0])
    assert few_questions[1] - few_questions[0] > 0.5


def test_no_questions_say_nothing():
    assert interval([]) == (0.0, 1.0)


def completion(text: str, reason: str = "stop") -> Completion:
    return Completion([1, 2, 3], text, None, reason)


def test_format_and_language_are_judged_by_the_rungs_own_template():
    question = Question(id="q", domain="d", question="1+1?", answer="2", verifier="exact", language="zh")
    zero = completion("<think>First 1+1=2.</think><answer>2</answer>")
    r1 = completion("<think>先算1+1=2。</think>答案是2。")
    as_zero = score_samples([question], [[zero, r1]], "accuracy", "r1_zero")
    as_chat = score_samples([question], [[zero, r1]], "accuracy", "chat")
    assert [s.well_formed for s in as_zero[0]] == [True, False]
    assert [s.well_formed for s in as_chat[0]] == [False, True]
    assert [s.score for s in as_zero[0]] == [1.0, 1.0]
    assert [s.language_share for s in as_zero[0]] == [0.0, 1.0]


def test_general_answers_are_judged_by_the_worlds_ground_truth_on_the_answer_alone():
    question = Question(id="q", domain="general", question="What is a cat?", answer=None, verifier="none")
    texts = ["<think>The user asks about cat.</think>A cat is an animal.", "<think>A cat is an animal.</think>No."]
    [group] = score_samples([question], [[completion(text) for text in texts]], "quality", "chat")
    assert [s.score for s in group] == [1.0, 0.0]
