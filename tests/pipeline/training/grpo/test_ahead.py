"""Rollouts written ahead end with the training, however it ends."""

import threading
import time

import pytest
import torch

from pipeline.engines.ahead import WritingAhead
from tests.pipeline.training.grpo.runs import metrics, run, settings


def rollout_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("rollout")]


def test_no_thread_is_left_where_a_token_budget_ends_the_run(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(steps_ahead=1), token_budget=1)
    assert [line["step"] for line in metrics(tmp_path)] == [1]
    assert rollout_threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_thread_is_left_where_the_run_is_broken_off(start, engine, tmp_path, monkeypatch, error):
    generating, generate = [], engine.generate

    def counted(*args, **given):
        generating.append(1)
        try:
            return generate(*args, **given)
        finally:
            generating.pop()

    def broken_off(record):
        raise error

    monkeypatch.setattr(engine, "generate", counted)
    with pytest.raises(error):
        run(start, engine, tmp_path, settings(steps_ahead=1), log=broken_off)
    assert rollout_threads() == [] and generating == []


def test_what_nobody_will_take_is_given_up_at_its_next_finished_group():
    ahead, begun, ended = WritingAhead(torch.device("cpu")), threading.Event(), []

    def write():
        finished = ahead.until_closed(None)
        begun.set()
        for group in range(20_000):
            time.sleep(0.01)
            finished(group, [])
        ended.append("to its end")

    ahead.start(1, write)
    assert begun.wait(60)
    ahead.close()
    assert rollout_threads() == [] and ended == []


def test_weights_older_than_the_bound_end_the_run(start, engine, tmp_path, monkeypatch):
    """An engine that says that it took over weights and did not."""
    monkeypatch.setattr(engine, "sync_weights", lambda model: None)
    with pytest.raises(RuntimeError, match="at step 1 has tokens of the policy after 0 steps, and steps_ahead is 0"):
        run(start, engine, tmp_path, settings())
