"""What the trainers do about numbers that are not finite, damaged checkpoints, and what had finished already."""

import json
import logging
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file

from data_recipes.pocket.bases import base_folder
from pipeline.config.parallel import ParallelSettings
from pipeline.config.sft import SFTSettings
from pipeline.core.console import LOGGER
from pipeline.core.crew import Crew
from pipeline.core.errors import RunError
from pipeline.training.checkpoints import last_checkpoint
from tests.pipeline.training import test_sft
from tests.pipeline.training.grpo.runs import metrics, multiples_of_three, run, settings, weights_of
from tests.pipeline.training.test_checkpoints import flip_a_bit
from tests.pipeline.training.test_sft import fine_tune, tokenizer

__all__ = ["tokenizer"]  # fixtures


@pytest.fixture(autouse=True)
def heard(caplog):
    """The ladder's logger, which does not pass its records on once a run has set it up."""
    logging.getLogger(LOGGER).addHandler(caplog.handler)
    yield
    logging.getLogger(LOGGER).removeHandler(caplog.handler)


@pytest.fixture
def poison(monkeypatch):
    """`poison(steps)`: at these optimizer steps, counted from 1, one number of the gradient is NaN."""
    plain = transformers.Trainer._clip_grad_norm

    def poison(steps):
        def clip(self, model):
            if self.state.global_step + 1 in steps:
                next(p.grad for p in model.parameters() if p.grad is not None).view(-1)[0] = torch.nan
            return plain(self, model)

        monkeypatch.setattr(transformers.Trainer, "_clip_grad_norm", clip)

    return poison


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_equal(some, others):
    assert some.keys() == others.keys()
    assert all(torch.equal(some[name], others[name]) for name in others)


# ---- Not finite


def test_grpo_steps_that_are_not_finite_change_nothing_and_are_counted(start, engine, tmp_path, poison):
    poison({1, 2, 3, 4})
    run(start, engine, tmp_path, settings(beta=0.01), nonfinite_steps=5)
    assert [line["skipped"] for line in metrics(tmp_path)] == [1, 1, 1, 1]
    assert_equal(weights_of(tmp_path / "checkpoint"), weights_of(start))


def test_grpo_goes_on_after_a_step_that_is_not_finite(start, engine, tmp_path, poison):
    poison({2})
    run(start, engine, tmp_path, settings(), nonfinite_steps=1 + 1)
    assert [line["skipped"] for line in metrics(tmp_path)] == [0, 1, 0, 0]
    assert metrics(tmp_path)[1]["grad_norm"] is None
    saved = weights_of(tmp_path / "checkpoint")
    assert all(weight.isfinite().all() for weight in saved.values())
    assert any(not torch.equal(weight, weights_of(start)[name]) for name, weight in saved.items())


def test_grpo_ends_after_a_few_in_a_row_naming_rewards_and_rows(start, engine, tmp_path, poison):
    poison({3, 4})
    with pytest.raises(RunError, match=r"step 4 has loss .* gradient norm nan.*multiples_of_three 0\.\d+.*checkpoint"):
        run(start, engine, tmp_path, settings(max_steps=8), nonfinite_steps=2)
    rows = lines(tmp_path / "nonfinite.jsonl")
    assert [row["step"] for row in rows] == [3] * 8 + [4] * 8
    assert all({"id", "prompt", "completion", "rewards", "advantage"} <= set(row) for row in rows)
    assert last_checkpoint(tmp_path / "trainer").name == "checkpoint-2"


def test_sft_skips_and_counts_too_and_shows_the_texts(tokenizer, tmp_path, poison):
    poison({2})
    seen = []
    fine_tune(tokenizer, tmp_path, on_step=lambda step, steps, figures: seen.append(figures["skipped"]), epochs=1)
    assert seen == [0, 1, 0, 0]
    rows = lines(tmp_path / "nonfinite.jsonl")
    assert len(rows) == 4
    assert all(any(prompt in row["input_ids"] for prompt in test_sft.PROMPTS) for row in rows)


def test_sft_ends_after_three_in_a_row(tokenizer, tmp_path, poison):
    poison({3, 4, 5})
    with pytest.raises(RunError, match="3 steps in a row"):
        fine_tune(tokenizer, tmp_path, checkpoint_every=2)
    assert last_checkpoint(tmp_path / "trainer").name == "checkpoint-4"


# ---- Phases


def test_grpo_tells_the_watchdog_what_it_is_doing(start, engine, tmp_path, monkeypatch):
    from pipeline.core import watchdog

    entered = set()
    monkeypatch.setattr(watchdog._main, "tell", lambda what, value: entered.add(value))
    run(start, engine, tmp_path, settings(max_steps=2), eval_hook=lambda *_: None, eval_every=1)
    inside = {f"{name} in update" for name in ("generation", "scoring", "weight sync", "checkpoint", "evaluation")}
    assert inside | {"update"} <= entered


# ---- Damaged checkpoints


def test_grpo_goes_on_from_the_checkpoint_before_a_damaged_one(start, engine, tmp_path, caplog):
    run(start, engine, tmp_path / "whole", settings(max_steps=6))
    run(start, engine, tmp_path / "damaged", settings())
    flip_a_bit(tmp_path / "damaged" / "trainer" / "checkpoint-4" / "optimizer.pt")
    run(start, engine, tmp_path / "damaged", settings(max_steps=6), resume=True)
    assert "checkpoint-4/optimizer.pt has SHA-256" in caplog.text
    assert [line["step"] for line in metrics(tmp_path / "damaged")] == [1, 2, 3, 4, 5, 6]
    expected = weights_of(tmp_path / "whole" / "checkpoint")
    for name, weight in weights_of(tmp_path / "damaged" / "checkpoint").items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name


def test_grpo_does_not_start_over_silently_when_all_are_damaged(start, engine, tmp_path):
    run(start, engine, tmp_path, settings())
    for step in (2, 4):
        flip_a_bit(tmp_path / "trainer" / f"checkpoint-{step}" / "model.safetensors")
    with pytest.raises(RunError, match="No checkpoint in"):
        run(start, engine, tmp_path, settings(max_steps=6), resume=True)
    assert len(metrics(tmp_path)) == 4


# ---- Resuming


def test_the_first_rollout_after_a_resume_comes_from_the_resumed_weights(start, engine, tmp_path):
    run(start, engine, tmp_path, settings())
    at_first_scoring = []

    def spy(completion_ids, trainer_state, **_):
        state = {name: weight.clone() for name, weight in engine._model.state_dict().items()}
        at_first_scoring.append((trainer_state.global_step, state))
        return multiples_of_three(completion_ids)

    run(start, engine, tmp_path, settings(max_steps=5), (spy,), resume=True)  # puts the start's weights into the engine
    step, held = at_first_scoring[0]
    assert step == 4
    assert_equal(held, weights_of(tmp_path / "trainer" / "checkpoint-4"))


def test_a_token_budget_that_was_used_up_is_not_passed_after_a_resume(start, engine, tmp_path):
    budget = 1
    first = run(start, engine, tmp_path, settings(checkpoint_every=1), token_budget=budget)
    again = run(start, engine, tmp_path, settings(checkpoint_every=1), token_budget=budget, resume=True)
    assert first.steps == again.steps == 1
    assert again.metrics["step"] == 1 and len(metrics(tmp_path)) == 1
    assert (again.tokens_seen, again.tokens_generated) == (first.tokens_seen, first.tokens_generated)


def stage(**profile):
    bar = SimpleNamespace(total=None, update=lambda *_, **__: None)
    ctx = SimpleNamespace(
        stage_id="distill", seed=1, crew=Crew(), device="cpu", checkpointed=lambda *_: None,
        log=logging.getLogger(LOGGER), progress=lambda *_: nullcontext(bar),
        profile=SimpleNamespace(
            dtype="float32", watchdog=SimpleNamespace(nonfinite_steps=3), parallel=ParallelSettings()
        ),
    )  # fmt: skip
    ctx.together = lambda function, **arguments: function(ctx, **arguments)
    return ctx


def test_a_student_that_has_finished_is_kept_and_a_damaged_one_trained_again(tmp_path, caplog):
    from pipeline.steps.sft import fine_tune

    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "What is 1+1+1?", "response": "<think>1+1=2</think>3"}\n' * 8)
    chosen = SFTSettings(epochs=2, learning_rate=1e-3, batch_size=4, rows_per_device=4, max_tokens=128)

    def distill():
        return fine_tune(stage(), base_folder("student-qwen"), rows, chosen, tmp_path / "qwen", "distilling")

    first = distill()
    weights = load_file(tmp_path / "qwen" / "checkpoint" / "model.safetensors")
    written = (tmp_path / "qwen" / "metrics.jsonl").stat().st_mtime_ns
    assert distill() == first
    assert (tmp_path / "qwen" / "metrics.jsonl").stat().st_mtime_ns == written
    flip_a_bit(tmp_path / "qwen" / "checkpoint" / "model.safetensors")
    assert distill() == first
    assert "training it again" in caplog.text
    assert_equal(load_file(tmp_path / "qwen" / "checkpoint" / "model.safetensors"), weights)
    assert [row["step"] for row in lines(tmp_path / "qwen" / "metrics.jsonl")] == [1, 2, 3, 4]


def train_scorer(tokenizer, output, on_step=lambda *_: None):
    from pipeline.config.reward_model import RewardTraining
    from pipeline.training.reward_model import train_reward_model

    pairs = [(f"User: What is a {x}? A {x} is good.", f"User: What is a {x}? No.") for x in "abcdefgh"]
    return train_reward_model(
        model_path=base_folder("student-qwen"), tokenizer=tokenizer, pairs=pairs, held_back=pairs[:2],
        settings=RewardTraining(epochs=2, learning_rate=1e-3, batch_size=4), output=output, seed=1, device="cpu",
        dtype="float32", on_step=on_step, checkpoint_every=1,
    )  # fmt: skip


def test_an_interrupted_scorer_ends_as_an_undisturbed_one_and_a_finished_one_is_kept(tokenizer, tmp_path):
    class Cut(Exception):
        pass

    def cut(step, *_):
        if step == 3:
            raise Cut

    whole = train_scorer(tokenizer, tmp_path / "whole")
    torch.rand(7)  # another state of the random numbers than a fresh process has
    with pytest.raises(Cut):
        train_scorer(tokenizer, tmp_path / "cut", cut)
    steps = []
    assert train_scorer(tokenizer, tmp_path / "cut", lambda step, *_: steps.append(step)) == whole
    assert steps == [3, 4]
    assert_equal(load_file(tmp_path / "cut" / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors"))
    assert train_scorer(tokenizer, tmp_path / "cut", lambda step, *_: steps.append(step)) == whole
    assert steps == [3, 4]


TWO_PROCESSES = """
import sys, torch
from types import SimpleNamespace
from accelerate import Accelerator
from pipeline.training.guarded import GuardedTrainer

class Trainer:
    def __init__(self):
        self.accelerator, self.model = Accelerator(cpu=True), torch.nn.Linear(1, 1)

    def add_callback(self, callback):
        pass

    def remove_callback(self, callback):
        pass

    def _get_grad_norm(self, model, grad_norm=None):
        return torch.tensor(1.0)

class Guarded(GuardedTrainer, Trainer):
    def describe_batch(self, batch):
        return batch

trainer = Guarded()
trainer.args = SimpleNamespace(output_dir=sys.argv[1] + "/trainer", fsdp_plugin_args=None)
trainer.state = SimpleNamespace(global_step=0)
rank = trainer.accelerator.process_index
model = torch.nn.Linear(1, 1)
for loss, skipped in ((float("inf") if rank else 1.0, True), (1.0, False)):
    model(torch.ones(1)).backward()
    trainer.saw_batch(torch.tensor(loss), [{"rank": rank}])
    trainer._get_grad_norm(model)
    assert all((p.grad is None) == skipped for p in model.parameters()), (rank, loss)
"""


def test_processes_skip_a_step_together_and_each_writes_its_rows(tmp_path):
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "two.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["rank"] for row in lines(tmp_path / "nonfinite.jsonl")] == [0]
    assert [row["rank"] for row in lines(tmp_path / "rank-1-nonfinite.jsonl")] == [1]
