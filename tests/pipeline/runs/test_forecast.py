"""How long the stages that are left will take, and which of how many a stage is."""

import os

import pytest

from pipeline.config.loading import load_profile
from pipeline.core.figures import rough
from pipeline.core.manifest import Manifest
from pipeline.ladder import LADDER, STAGES
from pipeline.runs.folder import RunFolder
from pipeline.runs.forecast import Forecast
from tests.pipeline.report.run_folders import make_run, smoke_profile

ZERO, SFT = STAGES["r1_zero"], STAGES["sft"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pocket(**takes: float):
    return load_profile("pocket").profile.model_copy(update={"takes_s": takes})


def test_the_rest_is_scaled_by_what_stages_took(home):
    forecast = Forecast(pocket(r1_zero=100.0, sft=30.0), RunFolder("new", "pocket"))
    assert forecast.seconds([ZERO, SFT]) == pytest.approx(130)
    forecast.ended(ZERO, 250.0)
    assert forecast.seconds([SFT]) == pytest.approx(75)


def test_without_figures_of_a_stage_nothing_is_said(home):
    assert Forecast(pocket(r1_zero=100.0), RunFolder("new", "pocket")).seconds([ZERO, SFT]) is None


def test_a_finished_run_of_the_profile_is_gone_by_and_the_runs_own_stages_first(home):
    for name, seconds in (("smoke", 40.0), ("another", 70.0)):
        make_run(name, smoke_profile(), upto="r1_zero")
        folder = RunFolder(name, "smoke").stage("r1_zero")
        Manifest.read(folder).model_copy(update={"wall_seconds": seconds}).write(folder)
        os.utime(folder / "manifest.json", (1e9 + seconds, 1e9 + seconds))
    found = {name: Forecast(smoke_profile(), RunFolder(name, "smoke")).seconds([ZERO]) for name in ("smoke", "new")}
    assert found == {"smoke": 40.0, "new": 70.0}
    assert Forecast(pocket(), RunFolder("new", "pocket")).seconds([ZERO]) is None, "another profile's run"


def test_pocket_expects_every_stage():
    assert set(load_profile("pocket").profile.takes_s) == {stage.id for stage in LADDER}


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "1 min"), (725, "12 min"), (5_000, "1 h 20 min"), (7_190, "2 h 00 min")]
)
def test_an_estimate_is_rough(seconds, words):
    assert rough(seconds) == words


def test_each_stage_says_which_of_how_many_it_is(ladder, capsys):
    ladder.run("cold_start_data")
    told = capsys.readouterr().err
    assert [
        f"stage {n} of 3, {name}" in told for n, name in enumerate(("base_model", "r1_zero", "cold_start_data"), 1)
    ] == [True] * 3
