"""The learning rate of a run that a token budget ends falls over the steps that are really made."""

import pytest

from tests.pipeline.training.grpo.runs import metrics, run, settings


def test_the_rate_falls_by_the_share_of_the_budget_that_is_spent(start, engine, tmp_path):
    budget = 1200
    chosen = settings(max_steps=500, lr_schedule="linear", warmup_steps=2, learning_rate=1e-3, checkpoint_every=500)
    run(start, engine, tmp_path, chosen, token_budget=budget)
    lines = metrics(tmp_path)
    assert 4 < len(lines) < 50
    spent = 0.0
    for number, line in enumerate(lines):
        expected = number / 2 if number < 2 else (1 - spent / budget) * 500 / 498
        assert line["learning_rate"] == pytest.approx(1e-3 * expected, rel=1e-6)
        spent += line["rollout_tokens"] + line["rows"] * line["prompt_tokens"]


def test_a_resumed_run_goes_on_at_the_rate_it_would_have_had(start, engine, tmp_path):
    chosen = settings(max_steps=500, lr_schedule="linear", warmup_steps=0, checkpoint_every=1)

    def stop(record):
        if record["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(start, engine, tmp_path / "stopped", chosen, token_budget=700, log=stop)
    run(start, engine, tmp_path / "stopped", chosen, token_budget=700, resume=True)
    run(start, engine, tmp_path / "whole", chosen, token_budget=700)
    rates = [[line["learning_rate"] for line in metrics(tmp_path / name)] for name in ("stopped", "whole")]
    assert rates[0] == rates[1] and len(rates[0]) > 3
