"""The README's figures are those of one run, which its data file holds."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, DATA, between_markers, block, disagreements, figures_of
from pipeline.core.errors import RunError
from pipeline.runs.loading import load_run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path):
    """The README, its data and its pictures, to change."""
    for name in ("README.md", DATA, *pictures()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def pictures() -> list[str]:
    return list(json.loads((ROOT / DATA).read_text(encoding="utf-8"))["pictures"])


def test_table_text_and_pictures_are_those_of_the_data_file():
    assert disagreements(ROOT) == []


def test_a_changed_figure_is_found(copy):
    readme, data = copy / "README.md", json.loads((copy / DATA).read_text(encoding="utf-8"))
    figure = data["rows"][1][1]
    part = between_markers(readme.read_text(encoding="utf-8"))
    readme.write_text(readme.read_text(encoding="utf-8").replace(part, part.replace(f"| {figure} |", "| 99.9 |", 1)))
    assert disagreements(copy) == [f"README.md's figures are not those of {DATA}"]


@pytest.mark.parametrize("name", pictures())
def test_a_picture_of_another_run_is_found(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes() + b"\0")
    assert disagreements(copy) == [f"{name} is not the picture of the run of {DATA}"]


def test_another_run_in_the_data_file_is_found(copy):
    data = json.loads((copy / DATA).read_text(encoding="utf-8"))
    (copy / DATA).write_text(json.dumps({**data, "seed": data["seed"] + 1}))
    assert len(disagreements(copy)) == 1
    assert block(data) != block({**data, "seed": data["seed"] + 1})


def test_a_run_that_is_not_finished_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    profile, run = load_run("pocket")
    with pytest.raises(RunError, match="base_model is missing"):
        figures_of(profile, run)


def test_a_readme_without_the_part_says_what_to_put_there():
    with pytest.raises(RunError, match="Put these two lines"):
        between_markers(f"# R1 Ladder\n{BEGIN}\n")
