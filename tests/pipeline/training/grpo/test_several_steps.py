"""Rollouts of several steps, and rollouts that are written while the policy trains."""

import pytest

from pipeline.engines import Sampling
from tests.pipeline.training.grpo.runs import (
    metrics,
    multiples_of_three,
    rollouts,
    run,
    settings,
)


def test_several_steps_on_one_rollout(start, engine, tmp_path):
    """Later slices are off-policy: the ratio moves away from one, and rollouts are made once for them all."""
    run(start, engine, tmp_path, settings(rollout_prompts=8, max_steps=8, checkpoint_every=4, learning_rate=0.05))
    lines = metrics(tmp_path)
    assert [line["rollout_tokens"] > 0 for line in lines] == [True, False, False, False] * 2
    assert [line["rollout_step"] for line in lines] == [1] * 4 + [5] * 4
    assert lines[0]["clip_ratio/region_mean"] == 0
    assert max(line["clip_ratio/region_mean"] for line in lines[1:4]) > 0
    assert all(line["sampler_gap_max"] < 1e-3 for line in lines), "the sampler is compared with the rollout's policy"


def test_a_rollout_written_ahead_is_as_stale_as_said(start, engine, tmp_path):
    """Each rollout but the first is written with the weights from before the step that trains meanwhile."""
    chosen = {"steps_ahead": 1, "learning_rate": 0.05, "max_steps": 5, "checkpoint_every": 5}
    run(start, engine, tmp_path, settings(**chosen))
    lines = metrics(tmp_path)
    assert [line["rollout_steps_stale"] for line in lines] == [0, 1, 1, 1, 1]
    assert lines[0]["sampler_gap_max"] < 1e-3
    assert min(line["sampler_gap_max"] for line in lines[1:]) > 1e-3, "the truncated ratio has something to correct"
    asked = [{row["id"] for row in rows} for rows in rollouts(tmp_path).values()]
    run(start, engine, tmp_path / "on_time", settings(max_steps=5, checkpoint_every=5))
    assert asked == [{row["id"] for row in rows} for rows in rollouts(tmp_path / "on_time").values()]


def test_a_rollout_of_several_steps_is_written_during_the_last_of_the_one_before(start, engine, tmp_path):
    chosen = {"steps_ahead": 1, "rollout_prompts": 4, "max_steps": 6, "learning_rate": 0.05}
    run(start, engine, tmp_path, settings(**chosen))
    stale = {line["rollout_step"]: line["rollout_steps_stale"] for line in metrics(tmp_path)}
    assert stale == {1: 0, 3: 1, 5: 1}


def test_runs_ahead_with_one_seed_are_the_same(start, engine, tmp_path):
    chosen = settings(steps_ahead=1, learning_rate=0.05)
    for name in ("one", "two"):
        run(start, engine, tmp_path / name, chosen)
    assert rollouts(tmp_path / "one") == rollouts(tmp_path / "two")


def test_held_out_evaluation_waits_for_the_rollout_under_way(start, engine, tmp_path):
    gaps = []

    def evaluate(step, engine):
        gaps.append(len(engine.generate(["a"], 2, Sampling(max_tokens=4))[0]))

    run(start, engine, tmp_path, settings(steps_ahead=1, learning_rate=0.05), eval_hook=evaluate, eval_every=2)
    assert gaps == [2, 2, 2]
    assert [line["rollout_steps_stale"] for line in metrics(tmp_path)] == [0, 1, 1, 1]


def test_an_error_while_writing_ahead_ends_the_run(start, engine, tmp_path, monkeypatch):
    calls, generate = [], engine.generate

    def fails_later(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the engine broke")
        return generate(*args, **kwargs)

    monkeypatch.setattr(engine, "generate", fails_later)
    with pytest.raises(RuntimeError, match="the engine broke"):
        run(start, engine, tmp_path, settings(steps_ahead=1))


def test_rewards_start_on_a_group_before_the_batch_is_written(start, engine, tmp_path):
    started = []

    class Slow:
        __name__ = "slow"

        def prefetch(self, prompts, completions, completion_ids, answer, trainer_state, **_):
            started.append((len(set(prompts)), list(completions), answer, trainer_state.global_step))

        def __call__(self, prompts, completions, **_):
            seen = [text for _, texts, _, step in started if step == 0 for text in texts]
            assert sorted(seen) == sorted(completions)
            return [1.0] * len(prompts)

    run(start, engine, tmp_path, settings(max_steps=1, checkpoint_every=1), (Slow(),))
    assert [distinct for distinct, *_ in started] == [1, 1]
    started.clear()
    off = settings(max_steps=1, checkpoint_every=1, speedups={"score_while_generating": False})
    run(start, engine, tmp_path / "off", off, (multiples_of_three, Slow())[:1])
    assert started == []
