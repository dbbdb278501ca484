"""Checkpoints by name, and what is said of names that mean none."""

import pytest

from pipeline.core.errors import ConfigError
from pipeline.runs.checkpoints import checkpoint_of, is_chat_model
from pipeline.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose stages base_model, r1_zero and distill have finished."""
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    run = RunFolder("mine", "pocket")
    for place in (
        "base_model/checkpoint", "base_model/students/qwen", "r1_zero/checkpoint", "distill/students/qwen/checkpoint",
    ):  # fmt: skip
        (run.path / place).mkdir(parents=True)
        (run.path / place / "config.json").write_text("{}")
    for stage in ("base_model", "r1_zero", "distill"):
        (run.stage(stage) / "manifest.json").write_text("{}")
    return run


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("r1-zero", "r1_zero/checkpoint"), ("r1_zero", "r1_zero/checkpoint"), ("base_model", "base_model/checkpoint"),
        ("base-model/qwen", "base_model/students/qwen"), ("distill/qwen", "distill/students/qwen/checkpoint"),
    ],
)  # fmt: skip
def test_a_name_means_a_folder(run, name, place):
    assert checkpoint_of(run, name) == run.path / place


def test_a_path_means_itself(run):
    path = run.path / "r1_zero" / "checkpoint"
    assert checkpoint_of(run, str(path)) == path


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("", ["empty", "r1_zero"]),
        ("r2-zero", ["no stage", "config.json", "distill/qwen"]),
        ("sft", ["has not finished", "make sft RUN=mine"]),
        ("distill", ["no such checkpoint", "distill/qwen"]),
        ("distill/lama", ["no such checkpoint", "distill/qwen"]),
        ("nowhere/at/all", ["no folder"]),
    ],
)
def test_a_name_that_means_none_says_which_there_are(run, name, parts):
    with pytest.raises(ConfigError) as error:
        checkpoint_of(run, name)
    for part in parts:
        assert part in str(error.value)


def test_models_before_the_cold_start_know_no_chat_template():
    assert [is_chat_model(name) for name in ("base-model/qwen", "r1-zero", "student_rl")] == [False] * 3
    assert [is_chat_model(name) for name in ("sft", "distill/qwen", "some/folder")] == [True] * 3


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_folder_whose_configuration_is_none_is_named(tmp_path, text):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json (is not valid JSON|holds list)"):
        checkpoint_of(RunFolder("none", "pocket"), str(tmp_path / "model"))
