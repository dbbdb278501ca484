import random

from data_recipes.written.preferences import Pair, balance_lengths, make_pairs, split_by_question

SCORES = {"good": 9.0, "fair": 5.0, "bad": 1.0}


def pairs(answers, annotator=lambda question, answer: SCORES[answer], judgements=4, min_gap=1.0):
    return make_pairs("q", answers, lambda text: text, annotator, judgements, min_gap, random.Random(0))


def test_the_best_answer_is_chosen_against_each_other_one():
    found, dropped = pairs(["fair", "bad", "good"])
    assert {(pair.chosen, pair.rejected, pair.gap) for pair in found} == {("good", "bad", 8.0), ("good", "fair", 4.0)}
    assert dropped == []


def test_a_small_gap_is_dropped_with_its_reason():
    kept, [rejected] = pairs(["good", "fair"], min_gap=4.0)
    assert kept == []
    assert rejected.reason == "small_gap"


def test_equal_answers_make_no_pair():
    kept, [rejected] = pairs(["good", "good"])
    assert kept == []
    assert rejected.reason == "same_answer"


def test_each_answer_is_judged_the_asked_number_of_times():
    asked = []

    def annotator(question, answer):
        asked.append(answer)
        return SCORES[answer]

    pairs(["good", "bad"], annotator, judgements=4)
    assert sorted(asked) == ["bad"] * 4 + ["good"] * 4
    assert asked != sorted(asked), "the order is random"


def test_lengths_are_balanced_so_that_length_tells_nothing():
    longer = [Pair(str(i), "long answer", "short", 5.0) for i in range(10)]
    shorter = [Pair(str(i), "short", "long answer", 5.0) for i in range(4)]
    even = [Pair("e", "same", "size", 5.0)]
    kept, dropped = balance_lengths([*longer, *shorter, *even], len, random.Random(0))
    assert sum(len(p.chosen) > len(p.rejected) for p in kept) == 4
    assert sum(len(p.chosen) < len(p.rejected) for p in kept) == 4
    assert even[0] in kept
    assert [r.reason for r in dropped] == ["length_balance"] * 6


def test_no_question_is_both_trained_on_and_held_back():
    given = [Pair(f"q{place % 13}", f"best of {place % 13}", f"other {place}", 5.0) for place in range(100)]
    training, held_back = split_by_question(given, 0.1)
    assert sorted(map(str, training + held_back)) == sorted(map(str, given))
    assert not {pair.question for pair in training} & {pair.question for pair in held_back}
    assert 10 <= len(held_back) < 20


def test_pairs_of_one_question_are_all_trained_on():
    given = [Pair("q", "best", f"other {place}", 5.0) for place in range(30)]
    assert split_by_question(given, 0.1) == (given, [])
    assert split_by_question(given[:1], 0.1) == (given[:1], [])


def test_of_few_pairs_none_is_held_back():
    given = [Pair(f"q{place}", "best", "other", 5.0) for place in range(9)]
    assert split_by_question(given, 0.1) == (given, [])
