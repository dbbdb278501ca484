"""`train_grpo` from checkpoint to checkpoint, on the transformers engine."""

import shutil
from collections import Counter

import pytest
import torch
from transformers import AutoTokenizer

from pipeline.config.lora import LoRASettings
from rewards import RewardSet, RewardSpec, Verdict
from tests.pipeline.training.grpo.runs import (
    QUESTIONS,
    metrics,
    multiples_of_three,
    rollouts,
    run,
    settings,
    weights_of,
)


def test_reward_rises(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_steps=25, prompts_per_step=4, checkpoint_every=25))
    rewards = [line["reward"] for line in metrics(tmp_path)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_what_a_run_leaves_behind(start, engine, tmp_path):
    def half(completions, completion_ids, log_extra, **_):
        log_extra("first", [ids[0] for ids in completion_ids])
        return [0.5 if i % 2 else None for i in range(len(completions))]

    calls = []
    result = run(start, engine, tmp_path, settings(), (multiples_of_three, half), [1.0, 0.5], log=calls.append)
    lines = metrics(tmp_path)
    assert [figures["step"] for figures in calls] == [1, 2, 3, 4] and result.metrics == lines[-1]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for key in ("reward", "loss", "grad_norm", "learning_rate", "entropy", "zero_spread", "truncated",
                "completion_tokens", "sampler_gap", "seconds_rollout", "seconds_update", "seconds_sync",
                "seconds_scoring", "rollout_tokens_per_second", "update_tokens_per_second"):  # fmt: skip
        assert isinstance(lines[0][key], int | float), key
    assert lines[0]["rewards"]["half"] == 0.5
    assert lines[0]["sampler_gap_max"] < 1e-3
    assert result.steps == 4
    assert result.tokens_generated == sum(line["rollout_tokens"] for line in lines)
    written = rollouts(tmp_path)
    assert list(written) == [f"step-{i:06d}" for i in (1, 2, 3, 4)]
    for rows in written.values():
        assert len(rows) == 8
        assert {row["id"] for row in rows} <= {q["id"] for q in QUESTIONS}
        assert all({"prompt", "completion", "advantage", "tokens", "finish_reason"} <= set(row) for row in rows)
        assert rows[0]["rewards"]["half"] is None
        tokenizer = AutoTokenizer.from_pretrained(start)
        firsts = [tokenizer.decode(row["logged"]["first"]) for row in rows]
        assert all(
            row["completion"].startswith(first) for row, first in zip(rows, firsts, strict=True) if row["completion"]
        )
    assert {p.name for p in (tmp_path / "trainer").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    assert tokenizer.eos_token_id == 1
    assert any(not torch.equal(w, weights_of(start)[n]) for n, w in weights_of(tmp_path / "checkpoint").items())


def test_reward_functions_see_columns_text_and_the_step(start, engine, tmp_path):
    seen = []

    def spy(prompts, completions, completion_ids, answer, id, trainer_state, **_):
        seen.append((prompts, completions, answer, id, trainer_state.global_step))
        return [0.0] * len(prompts)

    run(start, engine, tmp_path, settings())
    run(start, engine, tmp_path, settings(), (spy,))
    assert [step for *_, step in seen] == [0, 1, 2, 3]
    for prompts, completions, answers, ids, _ in seen:
        by_id = {q["id"]: q for q in QUESTIONS}
        assert all(
            by_id[i]["prompt"] == p and by_id[i]["answer"] == a for i, p, a in zip(ids, prompts, answers, strict=True)
        )
        assert all(isinstance(text, str) and "<|eos|>" not in text for text in completions)
        assert [ids.count(i) for i in dict.fromkeys(ids)] == [4, 4]


def test_length_limit_changes_at_its_step(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_completion_schedule=[{"from_step": 2, "tokens": 12}]))
    longest = [max(row["tokens"] for row in rows) for rows in rollouts(tmp_path).values()]
    assert longest == [8, 8, 12, 12]


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_reference_becomes_the_policy_at_its_step(start, engine, tmp_path, peft):
    """KL to the reference is zero on the first step after a refresh, and not before."""
    lora = LoRASettings(rank=4) if peft else None
    run(
        start,
        engine,
        tmp_path,
        settings(max_steps=6, beta=0.01, reference_refresh_steps=3, checkpoint_every=3, lora=lora),
    )
    kl = [line["kl"] for line in metrics(tmp_path)]
    assert kl[0] == pytest.approx(0, abs=1e-7)
    assert kl[1] > 1e-5
    assert kl[2] > 1e-5
    assert kl[3] == pytest.approx(0, abs=1e-7)
    assert kl[4] > 1e-5


def test_truncated_completions_can_be_left_out(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(mask_truncated=True, max_steps=1))
    line, rows = metrics(tmp_path)[0], rollouts(tmp_path)["step-000001"]
    assert line["trained_rows"] == sum(row["finish_reason"] == "stop" for row in rows)


def test_flat_groups_give_way_to_other_questions(start, engine, tmp_path):
    """Questions with an even number get one reward for all completions; with dynamic sampling none of them trains."""

    def even_is_flat(completion_ids, answer, log_extra, **_):
        log_extra("asked", answer)
        return [0.0 if int(a) % 4 == 0 else float(ids[0]) for ids, a in zip(completion_ids, answer, strict=True)]

    run(start, engine, tmp_path / "off", settings(max_steps=8), (even_is_flat,))
    run(start, engine, tmp_path / "on", settings(max_steps=8, dynamic_sampling=8), (even_is_flat,))
    off, on = metrics(tmp_path / "off"), metrics(tmp_path / "on")
    assert sum(line["zero_spread"] for line in off) > 0
    assert [line["zero_spread_after_resampling"] for line in on] == [0] * 8
    assert all(line["trained_rows"] == 8 for line in on)
    for rows in rollouts(tmp_path / "on").values():
        assert all(int(row["id"][1:]) % 2 for row in rows)
        assert [row["logged"]["asked"] for row in rows] == [row["answer"] for row in rows]
        assert len({row["id"] for row in rows}) == 2
    assert sum(line["rollout_tokens"] for line in on) > sum(line["rollout_tokens"] for line in off)


def test_of_more_groups_than_are_trained_those_that_vary_most_are_trained(start, engine, tmp_path):
    """Rewards of questions with an even number vary a hundredth as much, and those of q0 and q4 not at all."""

    def scaled(completion_ids, answer, **_):
        size = {0: 0.0, 1: 1.0, 2: 0.01, 3: 1.0}
        return [size[int(a) // 2 % 4] * float(ids[0]) for ids, a in zip(completion_ids, answer, strict=True)]

    chosen = settings(max_steps=6, sampled_prompts=7, online_difficulty={}, checkpoint_every=3)
    run(start, engine, tmp_path, chosen, (scaled,))
    for line, rows in zip(metrics(tmp_path), rollouts(tmp_path).values(), strict=True):
        assert [int(row["id"][1:]) % 2 for row in rows] == [1] * 8
        assert line["rows"] == 8 and line["zero_spread_trained"] == 0 and line["rollout_tokens"] >= 7 * 4
    assert sum(line["zero_spread"] for line in metrics(tmp_path)) > 0
    whole = weights_of(tmp_path / "checkpoint")
    shutil.rmtree(tmp_path / "trainer" / "checkpoint-6")
    run(start, engine, tmp_path, chosen, (scaled,), resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert all(
        torch.allclose(whole[name], weight, atol=1e-6) for name, weight in weights_of(tmp_path / "checkpoint").items()
    )


def test_verdicts_stand_beside_the_rewards(start, engine, tmp_path):
    questions = [{**question, "verifier": "exact"} for question in QUESTIONS]
    reward_set = RewardSet([RewardSpec(use="accuracy")])
    chosen = settings(rollout_prompts=4, max_steps=4)
    result = run(start, engine, tmp_path, chosen, reward_set.functions, dataset=questions)
    rows = [row for rows in rollouts(tmp_path).values() for row in rows]
    assert all(row["verdicts"]["accuracy"] in {str(verdict) for verdict in Verdict} for row in rows)
    assert result.verdicts["accuracy"] == dict(Counter(row["verdicts"]["accuracy"] for row in rows))


def test_overlong_completions_lose_reward_by_the_limit_of_the_step(start, engine, tmp_path):
    chosen = settings(overlong_share=0.5, max_completion_schedule=[{"from_step": 2, "tokens": 12}])
    run(start, engine, tmp_path, chosen)
    for step, (limit, rows) in enumerate(zip([8, 8, 12, 12], rollouts(tmp_path).values(), strict=True)):
        for row in rows:
            assert row["rewards"]["overlong"] == pytest.approx(-max(0.0, row["tokens"] / limit - 0.5) * 2), step


def test_times_and_waste_of_a_step(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_steps=2))
    run(start, engine, tmp_path / "padded", settings(max_steps=2, speedups={"packing": False}))
    for line in metrics(tmp_path):
        parts = [line[f"share_{name}"] for name in ("rollout", "scoring", "sync", "update")]
        assert 0.2 < sum(parts) <= 1
        assert line["seconds_step"] >= line["seconds_rollout"] + line["seconds_update"]
        assert 0 < line["update_flop_utilisation"] < 1
        assert 0 <= line["pad_share"] < 1
        assert line["dropped_rows"] == line["rows"] - line["trained_rows"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts_per_step": 10}, "9 questions and a rollout asks 10"),
        ({"max_completion_tokens": 120}, "max_model_len=128 leaves 8 beside completions of 120"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(start, engine, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(start, engine, tmp_path, settings(**changes))
