"""Length and repetition rewards: tokens, clamped, per group."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import RewardError, load

RIGHT, WRONG = "<answer> 4 </answer>", "<answer> 5 </answer>"


def scored(reward, lengths, right, prompts=None, **args):
    """Score completions of the given token lengths, right or wrong."""
    count = len(lengths)
    return load(reward, **args)(
        prompts=prompts or ["q"] * count,
        completions=[RIGHT if each else WRONG for each in right],
        completion_ids=[[7] * length for length in lengths],
        verifier=["exact"] * count,
        answer=["4"] * count,
    )


def test_soft_overlong_follows_equation_13_of_dapo():
    lengths = [0, 80, 90, 100, 101, 5000]
    scores = scored("soft_overlong", lengths, [True] * 6, max_tokens=100, cache_tokens=20)
    assert scores == [0.0, 0.0, -0.5, -1.0, -1.0, -1.0]


def test_lengths_are_tokens_and_not_characters():
    reward = load("soft_overlong", max_tokens=10, cache_tokens=5)
    assert reward(prompts=["q"], completions=["a" * 1000], completion_ids=[[1, 2]]) == [0.0]
    with pytest.raises(RewardError, match="completion_ids"):
        reward(prompts=["q"], completions=["a"])


def test_kimi_rewards_the_shortest_and_never_a_wrong_one():
    scores = scored("kimi_length", [10, 20, 30, 10], [True, True, True, False])
    assert scores == [0.5, 0.0, -0.5, 0.0]


def test_kimi_gives_nothing_where_all_have_one_length():
    assert scored("kimi_length", [10, 10], [True, False]) == [0.0, 0.0]


def test_kimi_is_normalised_within_the_group():
    alone = scored("kimi_length", [10, 20], [True, True])
    beside_longer = scored("kimi_length", [10, 20, 1000, 5000], [True] * 4, prompts=["q", "q", "r", "r"])
    assert beside_longer[:2] == alone


def test_kimi_counts_off_groups_of_one_prompt():
    scores = scored("kimi_length", [10, 20, 1000, 2000], [True] * 4, num_generations=2)
    assert scores == [0.5, -0.5, 0.5, -0.5]


def test_length_rewards_say_nothing_without_a_verdict():
    columns = dict(prompts=["q"], completions=[RIGHT], completion_ids=[[1]], verifier=["exact"], answer=[None])
    assert load("kimi_length")(**columns) == [None]
    assert load("cosine_length", max_tokens=10)(**columns) == [None]


def test_cosine_runs_between_its_two_values():
    assert scored("cosine_length", [0, 50, 100], [True] * 3, max_tokens=100) == pytest.approx([1.0, 0.75, 0.5])
    assert scored("cosine_length", [0, 50, 100], [False] * 3, max_tokens=100) == pytest.approx([-1.0, -0.75, -0.5])


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20))
def test_cosine_never_rises_again_with_length(lengths):
    lengths.sort()
    right = scored("cosine_length", lengths, [True] * len(lengths), max_tokens=100)
    wrong = scored("cosine_length", lengths, [False] * len(lengths), max_tokens=100)
    assert right == sorted(right, reverse=True)
    assert wrong == sorted(wrong)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), min_size=1, max_size=16))
def test_kimi_stays_within_a_half(completions):
    lengths, right = zip(*completions, strict=True)
    assert all(-0.5 <= score <= 0.5 for score in scored("kimi_length", lengths, right))


def test_repetition_is_the_share_of_repeated_token_n_grams():
    reward = load("repetition", ngram_size=2, max_penalty=-1.0)
    ids = [[1, 2, 3, 4], [5, 5, 5, 5, 5], [], [1]]
    assert reward(prompts=["q"] * 4, completions=["a"] * 4, completion_ids=ids) == [0.0, -0.75, 0.0, 0.0]


@pytest.mark.parametrize(
    ("use", "args"),
    [
        ("soft_overlong", {"max_tokens": 10, "cache_tokens": 0}),
        ("soft_overlong", {"max_tokens": 10, "cache_tokens": 11}),
        ("cosine_length", {"max_tokens": 0}),
        ("repetition", {"max_penalty": 1.0}),
        ("reasoning_steps", {"enough": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(use, args):
    with pytest.raises(RewardError, match=use):
        load(use, **args)
