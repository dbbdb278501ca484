"""A GRPO run that stops goes on as if it had not."""

import pytest
import torch

from pipeline.engines import EngineSettings, open_engine
from rewards import RewardError, RewardSet, RewardSpec
from tests.pipeline.interrupts import interrupts_heeded, press
from tests.pipeline.training.grpo.runs import (
    QUESTIONS,
    Stop,
    metrics,
    multiples_of_three,
    rollouts,
    run,
    settings,
    weights_of,
)


@pytest.mark.parametrize("steps_a_rollout", [1, 2])
def test_a_resumed_run_is_the_uninterrupted_run(start, engine, tmp_path, steps_a_rollout):
    """Weights, questions, completions and metrics: with KL, a refreshed reference, Adam and two orders of questions.

    It fails once between two checkpoints, and is stopped once by Ctrl-C: then there is one of the step, or of the
    rollout, that was under way.
    """
    chosen = settings(
        max_steps=8,
        rollout_prompts=2 * steps_a_rollout,
        beta=0.1,
        reference_refresh_steps=2,
        max_completion_schedule=[{"from_step": 6, "tokens": 10}],
        lr_schedule="linear",
    )
    run(start, engine, tmp_path / "whole", chosen)

    def break_off(record):
        if record["step"] == 3:
            raise Stop

    def press_ctrl_c(record):
        if record["step"] == 4:
            press()

    with pytest.raises(Stop):
        run(start, engine, tmp_path / "broken", chosen, log=break_off)
    assert len(metrics(tmp_path / "broken")) == 3
    saved = []
    with interrupts_heeded(), pytest.raises(KeyboardInterrupt):
        more = {"log": press_ctrl_c, "on_checkpoint": saved.append}
        run(start, engine, tmp_path / "broken", chosen, resume=True, **more)
    assert saved == [4, 5 if steps_a_rollout == 1 else 6]
    assert len(metrics(tmp_path / "broken")) == saved[-1]
    run(start, engine, tmp_path / "broken", chosen, resume=True)

    whole, resumed = metrics(tmp_path / "whole"), metrics(tmp_path / "broken")
    assert [line["step"] for line in resumed] == list(range(1, 9))
    for a, b in zip(whole, resumed, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4, abs=1e-6)
        assert b["kl"] == pytest.approx(a["kl"], rel=1e-3, abs=1e-6)
        assert b["reward"] == a["reward"]
        assert b["learning_rate"] == a["learning_rate"]
    assert rollouts(tmp_path / "whole") == rollouts(tmp_path / "broken")
    expected = weights_of(tmp_path / "whole" / "checkpoint")
    for name, weight in weights_of(tmp_path / "broken" / "checkpoint").items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name


def test_resume_passes_over_a_checkpoint_that_was_cut_off(start, engine, tmp_path):
    run(start, engine, tmp_path, settings())
    (tmp_path / "trainer" / "checkpoint-4").rename(tmp_path / "trainer" / ".writing")
    run(start, engine, tmp_path, settings(max_steps=6), resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_without_resume_a_run_starts_over(start, engine, tmp_path):
    run(start, engine, tmp_path, settings())
    run(start, engine, tmp_path, settings(max_steps=2))
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2]
    assert list(rollouts(tmp_path)) == ["step-000001", "step-000002"]


def test_a_failing_reward_leaves_the_last_whole_step_to_resume_from(start, engine, tmp_path):
    def fails_at_the_fourth_step(completion_ids, trainer_state, **_):
        if trainer_state.global_step == 3:
            raise RewardError("mine.py: brevity gave 'seven'")
        return multiples_of_three(completion_ids)

    with pytest.raises(RewardError, match="brevity"):
        run(start, engine, tmp_path, settings(), rewards=[fails_at_the_fourth_step])
    resumed = []
    result = run(start, engine, tmp_path, settings(), resume=True, log=lambda record: resumed.append(record["step"]))
    assert resumed == [4]
    assert result.steps == 4


def test_first_rollout_after_a_resume_has_the_resumed_weights(start, engine, tmp_path):
    """The engine holds the start weights; completions must come from the checkpoint's."""
    run(start, engine, tmp_path, settings(max_steps=2, learning_rate=0.05))
    engine.load_weights(start)
    run(start, engine, tmp_path, settings(max_steps=3, learning_rate=0.05), resume=True)
    assert metrics(tmp_path)[2]["sampler_gap_max"] < 1e-3


def test_verdicts_of_a_resumed_run_are_counted_over_all_of_it(start, engine, tmp_path):
    questions = [{**question, "verifier": "exact"} for question in QUESTIONS]
    for steps in (2, 4):
        rewards = RewardSet([RewardSpec(use="accuracy")]).functions
        result = run(start, engine, tmp_path, settings(max_steps=steps), rewards, dataset=questions, resume=True)
    assert sum(result.verdicts["accuracy"].values()) == 4 * 8


def test_in_process_vllm_from_start_to_resume(start, tmp_path):
    chosen = {"beta": 0.01, "reference_refresh_steps": 2}
    settings_of_engine = EngineSettings(
        kind="vllm", dtype="float32", max_model_len=128, max_sequences=16, kv_cache_gib=1
    )
    with open_engine(settings_of_engine, start) as vllm:
        run(start, vllm, tmp_path, settings(max_steps=4, learning_rate=0.05, **chosen))
        run(start, vllm, tmp_path, settings(max_steps=6, learning_rate=0.05, **chosen), resume=True)
        assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
        assert all(line["sampler_gap_max"] < 1e-3 for line in metrics(tmp_path))
