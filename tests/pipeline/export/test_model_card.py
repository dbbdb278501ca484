"""The card of an exported checkpoint: whose base it names, under which licence, and which figures it shows."""

import json

import pytest
import yaml

from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
from pipeline.core.manifest import Manifest
from pipeline.export.model_card import model_card
from pipeline.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path / "runs")
    run = RunFolder("test", "pocket")
    run.claim()
    return run


def cards_header(profile, run, name):
    """The front matter of the card of a checkpoint that brings no card of its own, and what stands under Base."""
    card = model_card(profile, run, name, run.path, run.path)
    return yaml.safe_load(card.split("---\n")[1]), card.partition("## Base\n\n")[2].partition(".")[0]


@pytest.mark.parametrize(
    ("name", "base"),
    [("r1-zero", "teacher"), ("general-rl", "teacher"), ("base-model", "teacher"), ("base-model/small", "small"),
     ("distill/small", "small"), ("distill/other", "other"), ("student-rl", "other")],
)  # fmt: skip
def test_a_card_names_the_base_that_the_checkpoint_was_trained_from_and_its_licence(run, tmp_path, name, base):
    for role, licence in (("teacher", "mit"), ("small", "apache-2.0"), ("other", "llama3.2")):
        (tmp_path / role).mkdir()
        (tmp_path / role / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    students = ", ".join(f"{student}: 'folder:{tmp_path}/{student}'" for student in ("small", "other"))
    overrides = [f"stages.base_model.teacher=folder:{tmp_path}/teacher", f"stages.base_model.students={{{students}}}"]
    profile = load_profile("pocket", [*overrides, "stages.student_rl.student=other"]).profile
    header, named = cards_header(profile, run, name)
    assert named == f"`folder:{tmp_path}/{base}`"
    assert header["license"] == {"teacher": "mit", "small": "apache-2.0", "other": "llama3.2"}[base]


def test_a_card_names_the_base_that_was_used_where_the_profile_names_another_now(run):
    """`student_rl` was made from the base of `other`, which has been fetched anew from elsewhere since."""

    def made(folder, stage, config, outputs, inputs):
        folder.mkdir(parents=True)
        manifest = Manifest(
            stage=stage, profile="pocket", config={"stage": config}, config_hash="0" * 64, inputs=inputs,
            outputs=outputs, records={}, code={"commit": "c", "dirty": False}, packages={}, seed=0, device="cpu",
            wall_seconds=1, peak_memory_bytes=1, tokens={}, metrics={},
        )  # fmt: skip
        manifest.write(folder)
        return manifest

    used = {"teacher": "hub:me/teacher", "students": {"other": "hub:me/other"}}
    old = made(run.path / ".replaced" / "base_model-1", "base_model", used, {"students/other/model": "1"}, {})
    read = {"base_model/students": old.identity("students")}
    now = {"teacher": "hub:me/teacher", "students": {"other": "hub:you/other"}}
    made(run.stage("base_model"), "base_model", now, {"students/other/model": "2"}, {})
    made(run.stage("student_rl"), "student_rl", {"student": "other"}, {}, read)
    header, named = cards_header(load_profile("pocket").profile, run, "student-rl")
    assert (header["base_model"], named) == ("me/other", "`hub:me/other`")


def test_a_student_whose_base_is_forgotten_is_refused(run):
    with pytest.raises(ConfigError, match=r"distill/gone: the base of the student 'gone' is not known any more"):
        model_card(load_profile("pocket").profile, run, "distill/gone", run.path, run.path)


def test_figures_on_a_card_are_those_of_the_rung(run):
    figures = dict.fromkeys(("pass@1", "low", "high", "format", "mean_tokens", "truncated"), 0.5)
    results = {
        rung: {"sums": figures | {"questions": 1, "samples": place}}
        for place, rung in enumerate(("base", "R1", "qwen base", "qwen distilled", "qwen RL", "llama distilled"), 11)
    }
    run.stage("evaluate").mkdir(parents=True)
    found = {"settings": {"sampling": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 9}, "seed": 0}}
    (run.stage("evaluate") / "results.json").write_text(json.dumps(found | {"results": results}))
    profile = load_profile("pocket").profile
    names = ("base-model", "general-rl", "base-model/qwen", "distill/qwen", "student-rl", "distill/llama")
    for place, name in enumerate(names, 11):
        assert f"| 1 | {place} |" in model_card(profile, run, name, run.path, run.path), name
