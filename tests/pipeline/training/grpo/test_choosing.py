"""Questions and groups chosen by how rewards came out, piece by piece."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.grpo import GRPOSettings, OnlineDifficulty
from pipeline.training.grpo.advantages import group_advantages, most_varied
from pipeline.training.grpo.answers import Answers
from pipeline.training.grpo.rollouts import Rollouts
from pipeline.training.question_sampler import OnlineQuestions, QuestionSampler

QUICK = settings(max_examples=40)


@QUICK
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.integers(0, 5))
def test_without_a_flat_group_questions_come_in_the_order_of_the_seed(questions, passes, seed, watched, more):
    size = questions * 3 + more
    plain = QuestionSampler(size=size, questions=questions, group_size=1, repeats=1, rollouts=3 * passes, seed=seed)
    difficulty = OnlineDifficulty() if watched else None
    online = OnlineQuestions(size=size, questions=questions, seed=seed, difficulty=difficulty)
    asked = []
    for _ in range(3 * passes):
        asked += (rows := online.ask())
        online.note(rows, [False] * questions)
    assert asked == list(plain)


def asked_often(weight, least, rollouts=400):
    """Times that each of 20 questions is asked where the groups of the first ten are always flat."""
    online = OnlineQuestions(size=20, questions=4, seed=0, difficulty=OnlineDifficulty(flat_weight=weight, least=least))
    counts = [0] * 20
    for _ in range(rollouts):
        rows = online.ask()
        assert len(set(rows)) == 4
        online.note(rows, [row < 10 for row in rows])
        for row in rows:
            counts[row] += 1
    return sum(counts[:10]), sum(counts[10:])


def test_a_question_whose_groups_stay_flat_is_drawn_with_its_least_chance():
    flat, useful = asked_often(weight=0.5, least=0.1)
    assert 0.08 < flat / useful < 0.13
    assert asked_often(weight=1.0, least=0.1) == (800, 800)


def test_the_chance_falls_with_each_flat_group_in_a_row_and_comes_back():
    online = OnlineQuestions(size=1, questions=1, seed=0, difficulty=OnlineDifficulty(flat_weight=0.5, least=0.2))
    chances = []
    for flat in (True, True, True, False):
        online.note([0], [flat])
        chances.append(online.chance(0))
    assert chances == [0.5, 0.25, 0.2, 1.0]


def test_questions_go_on_after_a_checkpoint_and_a_rollout_that_failed_is_asked_again(tmp_path):
    def made():
        return OnlineQuestions(size=7, questions=3, seed=1, difficulty=OnlineDifficulty())

    whole, broken = made(), made()
    for _ in range(5):
        rows = whole.ask()
        assert broken.ask() == rows
        for each in (whole, broken):
            each.note(rows, [row % 2 == 0 for row in rows])
    broken.ask()  # scoring it fails
    broken.save(tmp_path)
    resumed = made()
    resumed.load(tmp_path)
    for _ in range(9):
        rows = whole.ask()
        assert resumed.ask() == rows
        for each in (whole, resumed):
            each.note(rows, [row % 2 == 0 for row in rows])


def test_the_groups_that_vary_most_are_chosen_in_the_rollouts_order():
    nan = math.nan
    rewards = torch.tensor([0.0, 0.0, 0.0, 1.0, nan, 5.0, 0.0, 4.0, 1.0, 0.0, nan, nan])
    assert most_varied(rewards, 2, 1) == [3]
    assert most_varied(rewards, 2, 3) == [1, 3, 4]
    assert most_varied(rewards, 2, 4) == [0, 1, 3, 4]


@QUICK
@given(st.integers(2, 5), st.integers(1, 8), st.data())
def test_no_group_that_is_left_out_varies_more_than_one_that_is_chosen(size, groups, data):
    values = data.draw(st.lists(st.floats(-3, 3, width=32), min_size=size * groups, max_size=size * groups))
    rewards, count = torch.tensor(values), data.draw(st.integers(1, groups))
    chosen = most_varied(rewards, size, count)
    spread = rewards.view(groups, size).std(dim=1)
    left = [spread[g].item() for g in range(groups) if g not in chosen]
    assert len(chosen) == count == len(set(chosen)) and chosen == sorted(chosen)
    assert min(spread[g].item() for g in chosen) >= max(left, default=-1.0) - 1e-6


class Recorded(Exception):
    pass


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [0, 1, 4, 5], [3, 4, 6, 7], [4, 5, 6, 7]])
def test_groups_that_vary_most_are_shared_out_equally_whichever_process_sampled_them(monkeypatch, chosen):
    """Eight groups of two completions, four a process, of which four are trained."""
    spread = [1.0 if group in chosen else 0.0 for group in range(8)]
    rewards = torch.tensor([[value] for group in spread for value in (0.0, group)])
    result = group_advantages(rewards, torch.ones(1), 2, "group")

    def share(rank: int, gather) -> Answers:
        groups = range(4 * rank, 4 * rank + 4)
        answers = Answers(
            inputs=[{"id": group} for group in groups for _ in range(2)],
            prompt_ids=[[group] for group in groups],
            completions=[f"{group}{member}" for group in groups for member in "ab"],
            rewards=rewards,
            verdicts={"accuracy": [group * 10 + member for group in groups for member in range(2)]},
            logged=[{"told": f"{group}{member}"} for group in groups for member in "ab"],
        )
        trainer = SimpleNamespace(
            num_generations=2,
            settings=GRPOSettings(prompts_per_step=4, rollout_prompts=None, sampled_prompts=8, checkpoint_every=1),
            accelerator=SimpleNamespace(process_index=rank, num_processes=2),
            reward_funcs=[],
        )
        monkeypatch.setattr("pipeline.training.grpo.rollouts.gather_object", gather)
        return Rollouts(trainer, None)._most_varied(answers, result)

    held: list = []

    def record(here):
        held.extend(here)
        raise Recorded

    for rank in (0, 1):
        with pytest.raises(Recorded):
            share(rank, record)
    for rank in (0, 1):
        mine, got = chosen[2 * rank : 2 * rank + 2], share(rank, lambda here: list(held))
        assert got.prompt_ids == [[group] for group in mine]
        assert [row["id"] for row in got.inputs] == [group for group in mine for _ in range(2)]
        assert got.completions == [f"{group}{member}" for group in mine for member in "ab"]
        assert got.verdicts == {"accuracy": [group * 10 + member for group in mine for member in range(2)]}
        assert [said["told"] for said in got.logged] == got.completions
        assert got.rewards.flatten().tolist() == [0.0, 1.0] * 4
