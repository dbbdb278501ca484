"""Figures on their way to TensorBoard, trackio and Weights & Biases."""

import sys
from types import SimpleNamespace

import pytest

from pipeline.core.errors import ConfigError
from pipeline.steps.trackers import Trackers

STEP = {"step": 4, "reward": 0.5, "rewards": {"accuracy": 0.25, "format": None}, "set": "reasoning"}


class Recorder:
    """Stands for a tracker's package and for its run."""

    __spec__ = "installed"

    def __init__(self):
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, figures, step):
        self.logged.append((step, figures))

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_numbers_reach_the_tracker_under_flat_names(name, tmp_path, monkeypatch):
    package = Recorder()
    monkeypatch.setitem(sys.modules, name, package)
    with Trackers([name], "pocket", "r1_zero", tmp_path / "r1_zero-abc", {"lr": 1e-4}) as trackers:
        trackers.log(STEP)
        trackers.log({"step": 4, "pass@1": 0.7}, "heldout/")
    assert package.logged == [(4, {"reward": 0.5, "rewards/accuracy": 0.25}), (4, {"heldout/pass@1": 0.7})]
    assert package.started[0]["name"] == "pocket/r1_zero"
    assert package.started[0]["config"] == {"lr": 1e-4}
    assert package.started[0]["resume"] == "allow"


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_trackers_are_closed_when_training_fails(name, tmp_path, monkeypatch):
    package = Recorder()
    monkeypatch.setitem(sys.modules, name, package)
    with pytest.raises(ZeroDivisionError), Trackers([name], "pocket", "r1_zero", tmp_path, {}):
        raise ZeroDivisionError
    assert package.finished == 1


def test_tensorboard_files_hold_the_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Trackers(["tensorboard"], "pocket", "r1_zero", tmp_path, {}) as trackers:
        trackers.log(STEP)
        trackers.log({**STEP, "step": 5, "reward": 0.75})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward")] == [(4, 0.5), (5, 0.75)]
    assert [event.step for event in events.Scalars("rewards/accuracy")] == [4, 5]


def test_tensorboard_of_a_resumed_stage_shows_each_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (1, 3):  # resumed from a checkpoint at step 2, after step 4 had been written
        with Trackers(["tensorboard"], "pocket", "r1_zero", tmp_path, {}) as trackers:
            for step in range(first, first + 4):
                trackers.log({"step": step, "reward": float(first)})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("reward")] == [
        (1, 1.0),
        (2, 1.0),
        *((s, 3.0) for s in (3, 4, 5, 6)),
    ]


def test_tracker_that_is_not_installed_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        Trackers(["wandb"], "pocket", "r1_zero", tmp_path, {})


def test_no_tracker_costs_nothing():
    with Trackers([], "pocket", "r1_zero", SimpleNamespace(), {}) as trackers:
        trackers.log(STEP)
