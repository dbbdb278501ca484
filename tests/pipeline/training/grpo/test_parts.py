"""The pieces of the GRPO trainer on their own: sampling order, advantages, packing, checkpoints, records."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.grpo.advantages import group_advantages
from pipeline.training.grpo.records import RunRecords
from pipeline.training.packed.packing import Row, pack, packed_tokens, plan_microbatches
from pipeline.training.question_sampler import QuestionSampler

QUICK = settings(max_examples=40)

# ---- Which questions are asked


def rollouts_of(size, questions, rollouts=7, seed=0, group_size=3, repeats=2):
    sampler = QuestionSampler(
        size=size, questions=questions, group_size=group_size, repeats=repeats, rollouts=rollouts, seed=seed
    )
    rows = list(sampler)
    assert len(rows) == len(sampler)
    span = questions * group_size * repeats
    return [rows[i : i + span] for i in range(0, len(rows), span)]


@QUICK
@given(st.integers(1, 12), st.integers(0, 20), st.integers(0, 3))
def test_no_question_twice_in_a_rollout_and_all_asked_before_any_again(questions, more, seed):
    size = questions + more
    asked = [sorted(set(rollout)) for rollout in rollouts_of(size, questions, seed=seed)]
    assert all(len(rows) == questions for rows in asked)
    an_order = size // questions
    for start in range(0, len(asked) - an_order + 1, an_order):
        rows = [row for rollout in asked[start : start + an_order] for row in rollout]
        assert len(set(rows)) == len(rows)


@QUICK
@given(st.integers(1, 12), st.integers(0, 20), st.integers(0, 3))
def test_every_question_is_asked_once_an_epoch_whatever_was_resumed(questions, more, seed):
    size, rollouts = questions + more, 12
    sampler = QuestionSampler(
        size=size, questions=questions, group_size=1, repeats=1, rollouts=rollouts, seed=seed
    )  # fmt: skip
    rows = list(sampler)
    for first in range(0, len(rows) - size + 1, size):
        assert sorted(rows[first : first + size]) == list(range(size))
    assert [row for number in range(rollouts) for row in sampler.asked(number)] == rows  # each by its number alone


def test_groups_are_consecutive_and_rollouts_repeat_for_each_micro_step():
    for rollout in rollouts_of(10, 4, group_size=3, repeats=2):
        assert rollout[:12] == rollout[12:]
        assert all(len(set(rollout[i : i + 3])) == 1 for i in range(0, 12, 3))


def test_orders_change_from_pass_to_pass_and_with_the_seed():
    first, second, *_ = rollouts_of(8, 8)
    assert first != second
    assert rollouts_of(8, 8, seed=1) != rollouts_of(8, 8, seed=2)


def test_longer_runs_begin_like_shorter_ones():
    assert rollouts_of(9, 4, rollouts=9)[:5] == rollouts_of(9, 4, rollouts=5)


def test_fewer_questions_than_a_rollout_asks():
    with pytest.raises(ValueError, match="3 questions and a rollout asks 4"):
        QuestionSampler(size=3, questions=4, group_size=2, repeats=1, rollouts=1, seed=0)


# ---- Advantages


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    result = group_advantages(rewards, torch.tensor([1.0, 0.5]), 2, "group")
    std = math.sqrt(0.5)
    expected = [0.5, -0.5, 0.5, -0.5]
    assert result.advantages[:4].tolist() == pytest.approx([e / (std + 1e-4) for e in expected])
    assert result.advantages[4:].tolist() == [0.0, 0.0]
    assert result.rewards.tolist() == pytest.approx([1.0, 0.0, 1.5, 0.5, 0.75, 0.75])
    assert result.zero_spread.tolist() == [False, False, True]


def test_unscored_completions_neither_train_nor_count():
    nan = math.nan
    rewards = torch.tensor([[1.0, nan], [0.0, nan], [nan, nan], [nan, nan]])
    result = group_advantages(rewards, torch.tensor([1.0, 1.0]), 4, "none")
    assert result.advantages.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert result.rewards.isnan().tolist() == [False, False, True, True]


def test_a_missing_score_is_neither_the_worst_nor_the_best_of_its_group():
    """Two rewards; the second says nothing about the first completion, which is the better one by the first reward."""
    nan = math.nan
    rewards = torch.tensor([[1.0, nan], [0.0, 1.0], [0.0, 0.5], [0.0, 0.0]])
    result = group_advantages(rewards, torch.tensor([1.0, 1.0]), 4, "none")
    assert result.advantages.tolist() == pytest.approx([0.75, 0.25, -0.25, -0.75])
    equal = torch.tensor([[1.0, nan], [1.0, 0.7], [1.0, 0.7]])
    assert group_advantages(equal, torch.tensor([1.0, 1.0]), 3, "group").advantages.tolist() == [0.0, 0.0, 0.0]


scores = st.lists(
    st.tuples(*[st.none() | st.floats(-3, 3, width=32)] * 3), min_size=2, max_size=6
)  # completions of one group × functions


@given(scores, st.lists(st.floats(0.125, 3, width=32), min_size=3, max_size=3))
def test_each_function_compares_only_what_it_scored(group, weights):
    """What an advantage is made of: each score against the mean of those that the function gave in the group."""
    rewards = torch.tensor([[math.nan if s is None else s for s in row] for row in group], dtype=torch.float64)
    weights = torch.tensor(weights, dtype=torch.float64)
    found = group_advantages(rewards, weights, len(group), "none").advantages
    by_function = ((rewards - rewards.nanmean(dim=0)) * weights).nan_to_num(nan=0.0).sum(dim=1)
    assert torch.allclose(found, by_function, atol=1e-9)
    assert not found[rewards.isnan().all(dim=1)].any()


@given(scores, st.lists(st.floats(0.125, 3, width=32), min_size=3, max_size=3), st.sampled_from(["group", "none"]))
def test_whole_scores_give_trls_advantage(group, weights, scale):
    """TRL 1.16: the weighted sum less its group mean, over the sample deviation and 1e-4."""
    rewards = torch.tensor([[s or 0.0 for s in row] for row in group])
    weights = torch.tensor(weights)
    result = group_advantages(rewards, weights, len(group), scale)
    total = (rewards * weights).sum(dim=1)
    expected = total - total.mean()
    if scale == "group":
        expected = expected / (total.std() + 1e-4)
    if result.zero_spread.any():
        assert not result.advantages.any() and expected.abs().max() < 1e-2
    else:
        assert torch.allclose(result.advantages, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@given(
    st.tuples(*[st.none() | st.floats(-10, 10)] * 3), st.integers(2, 17), st.sampled_from(["group", "batch", "none"])
)
def test_equal_rewards_move_nothing_in_any_width(dtype, row, size, scale):
    rewards = torch.tensor([[math.nan if s is None else s for s in row]] * size, dtype=dtype)
    weights = torch.tensor([0.1, 1.0, 0.7])
    other = torch.arange(size, dtype=dtype)[:, None].expand(size, 3)  # a group with a spread, for the batch's scale
    result = group_advantages(torch.cat([rewards, other]), weights, size, scale)
    assert result.advantages[:size].tolist() == [0.0] * size
    assert result.zero_spread.tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_sums_that_differ_by_rounding_alone_are_equal(dtype):
    rewards = torch.tensor([[0.1, 0.2], [0.3, 0.0], [0.2, 0.1]], dtype=dtype)
    result = group_advantages(rewards, torch.tensor([1.0, 1.0]), 3, "group")
    assert result.zero_spread.tolist() == [True] and not result.advantages.any()


def test_a_group_with_one_score_has_no_spread():
    result = group_advantages(torch.tensor([[1.0], [math.nan]]), torch.tensor([1.0]), 2, "group")
    assert result.advantages.tolist() == [0.0, 0.0]
    assert result.zero_spread.tolist() == [True]


@QUICK
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.floats(0.1, 10), st.floats(-3, 3))
def test_group_advantages_ignore_shift(values, _, shift):
    weights = torch.tensor([1.0])
    one = group_advantages(torch.tensor(values)[:, None], weights, 4, "none").advantages
    other = group_advantages(torch.tensor(values)[:, None] + shift, weights, 4, "none").advantages
    assert torch.allclose(one, other, atol=1e-5)
    assert one.sum().abs() < 1e-4


# ---- Packing

rows_strategy = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 20)), min_size=1, max_size=20
)  # group, completion length


def make_rows(shape) -> list[Row]:
    return [
        Row([7] * (1 + 3 * group), list(range(10, 10 + length)), 1.0, None, False, group) for group, length in shape
    ]


@QUICK
@given(rows_strategy, st.integers(1, 60), st.booleans())
def test_microbatches_hold_every_row_once_within_the_budget(shape, budget, share):
    rows = make_rows(shape)
    batches = plan_microbatches(rows, budget, share)
    assert sorted(id(row) for batch in batches for row in batch) == sorted(map(id, rows))
    for batch in batches:
        assert packed_tokens(batch, share) <= budget or len(batch) == 1


@QUICK
@given(rows_strategy, st.booleans())
def test_packed_layout(shape, share):
    rows = make_rows(shape)
    batch = pack(rows, share, torch.device("cpu"))
    assert batch.tokens == packed_tokens(rows, share)
    assert batch.labels.tolist() == [token for row in rows for token in row.completion_ids]
    scored = batch.position_ids[0, batch.first_scored :].tolist()
    assert scored == [len(row.prompt_ids) - 1 + i for row in rows for i in range(len(row.completion_ids))]
    # The two index maps undo each other, so that each token has one slot.
    assert batch.to_slots[batch.from_slots].tolist() == list(range(batch.tokens))
    unpacked = batch.unpack(batch.labels.float())
    for row, values in zip(rows, unpacked, strict=True):
        assert values[: len(row.completion_ids)].tolist() == row.completion_ids
        assert not values[len(row.completion_ids) :].any()


# ---- Records


def test_records_of_steps_after_the_checkpoint_are_forgotten(tmp_path):
    records = RunRecords(tmp_path, 0, 1)
    for step in (1, 2, 3):
        records.step({"step": step, "reward": float("nan"), "rewards": {"a": math.inf}, "tokens": step})
    (tmp_path / "rollouts" / "step-000002.jsonl").write_text("")
    (tmp_path / "rollouts" / "step-000003.jsonl").write_text("")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "cut off')
    resumed = RunRecords(tmp_path, 2, 1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["reward"] is None
    assert lines[0]["rewards"] == {"a": None}
    assert [f.name for f in (tmp_path / "rollouts").iterdir()] == ["step-000002.jsonl"]
    assert resumed.totals("tokens") == {"tokens": 3}
