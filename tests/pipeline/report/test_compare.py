"""Runs side by side."""

import pytest

from pipeline.cli import main
from pipeline.core.errors import ConfigError
from pipeline.report import RunRecord
from pipeline.report.compare import Result, compare_runs, config_differences, result_rows
from tests.pipeline.report.run_folders import make_run, smoke_profile

pytestmark = pytest.mark.usefixtures("home")


def test_only_what_differs_is_listed():
    make_run("a", smoke_profile("stages.r1_zero.grpo.learning_rate=2e-5"))
    make_run("b", smoke_profile("stages.r1_zero.grpo.learning_rate=1e-5"))
    differences = config_differences([RunRecord.as_made("a"), RunRecord.as_made("b")])
    assert differences == [("r1_zero", "grpo.learning_rate", ["2e-05", "1e-05"])]


def test_what_differs_alike_in_many_stages_is_said_once():
    make_run("a", smoke_profile(seed=0), upto="cold_start_sft")
    make_run("b", smoke_profile(seed=1), upto="cold_start_sft")
    [(stages, key, values)] = config_differences([RunRecord.as_made("a"), RunRecord.as_made("b")])
    assert (key, values) == ("seed", ["0", "1"])
    assert stages == "r1_zero, cold_start_data, cold_start_sft"


def test_results_stand_side_by_side_with_gaps_for_what_is_missing():
    make_run("a", smoke_profile())
    make_run("b", smoke_profile(), upto="r1_zero")
    rows = result_rows([RunRecord.as_made("a"), RunRecord.as_made("b")])
    assert [row.rung for row in rows if row.set == "reasoning"][:3] == ["base", "R1-Zero", "Dev1"]
    assert all(row.cells[0] and row.cells[1] is None and not row.apart for row in rows)


def test_intervals_that_do_not_overlap_are_told():
    near, far = {"value": 0.5, "low": 0.4, "high": 0.6}, {"value": 0.8, "low": 0.7, "high": 0.9}
    assert Result("R1", "reasoning", [near, far]).apart
    assert not Result("R1", "reasoning", [near, {**far, "low": 0.55}]).apart


def test_comparison_is_one_file_that_overlays_the_curves(capsys):
    make_run("a", smoke_profile(seed=0))
    make_run("b", smoke_profile(seed=1))
    page = compare_runs(["a", "b"]).read_text(encoding="utf-8")
    assert '"runs":["a","b"]' in page
    assert "default-src 'none'" in page
    printed = capsys.readouterr().out
    assert "configured differently" in printed
    assert "R1-Zero" in printed


def test_run_of_a_profile_that_is_gone_can_be_compared():
    """A run remembers how its stages were configured, so no profile file is needed."""
    make_run("a", smoke_profile("name=mine"))
    make_run("b", smoke_profile("name=mine", "stages.distill.sft.epochs=1"))
    assert compare_runs(["a", "b"]).is_file()


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"]])
def test_fewer_than_two_runs_are_refused(names):
    make_run("a", smoke_profile(), upto="base_model")
    with pytest.raises(ConfigError, match="two or more different runs"):
        compare_runs(names)


def test_missing_run_is_named_with_those_that_are_there(capsys):
    make_run("a", smoke_profile(), upto="base_model")
    assert main(["compare", "a nope"]) == 2
    assert "no run 'nope'" in capsys.readouterr().err


def test_of_lists_of_sections_only_the_keys_that_differ_are_listed():
    make_run("a", smoke_profile())
    make_run("b", smoke_profile("stages.r1_zero.rewards.1.weight=0.25"))
    differences = config_differences([RunRecord.as_made("a"), RunRecord.as_made("b")])
    assert differences == [("r1_zero", "rewards.1.weight", ["1.0", "0.25"])]


def test_a_run_that_was_not_evaluated_is_said_to_be_and_has_no_column(capsys):
    make_run("a", smoke_profile())
    make_run("unmeasured", smoke_profile(), upto="r1_zero")
    compare_runs(["a", "unmeasured"])
    printed = capsys.readouterr().out
    assert "unmeasured has not been evaluated." in printed
    [heading] = [line for line in printed.splitlines() if "rung" in line]
    assert "unmeasured" not in heading
