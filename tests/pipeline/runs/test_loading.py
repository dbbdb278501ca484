"""Every command finds its profile and its run in one way: the device, RUN, SEED and a profile given by path count."""

import json
import os

import pytest

from pipeline.cli import main
from pipeline.runs.folder import RunFolder
from pipeline.runs.loading import load_run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path / "runs")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return tmp_path / "runs"


@pytest.fixture
def own(tmp_path, runs) -> str:
    """The path of a profile of the user's, and a run that it made."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: smoke\nname: own\n")
    load_run(str(path))[1].claim()
    return str(path)


@pytest.fixture
def climbs(monkeypatch) -> list:
    """The runs that `make claims` makes, in place of making them."""
    made: list = []
    monkeypatch.setattr("pipeline.report.claims.run_stages", lambda profile, run, target: made.append((profile, run)))
    monkeypatch.setattr("pipeline.report.claims.judge_run", lambda profile, run: [])
    return made


@pytest.mark.parametrize(("device", "visible"), [("cpu", ""), ("auto", "0")])
def test_a_cpu_profile_hides_the_gpus_from_claims_too(runs, climbs, device, visible):
    assert main(["claims", "--profile", "smoke", "--set", f"device={device}", "--seeds", "4"]) == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["smoke-seed0", "smoke-seed1", "smoke-seed2"]),
        (["--seeds", "7 8"], ["smoke-seed7", "smoke-seed8"]),
        (["--seed", "5"], ["smoke-seed5"]),
        (["--run", "mine", "--seeds", "3"], ["mine-seed3"]),
    ],
)
def test_claims_heed_run_and_seed(runs, climbs, arguments, names):
    assert main(["claims", "--profile", "smoke", *arguments]) == 0
    assert [run.name for _, run in climbs] == names
    assert [profile.seed for profile, _ in climbs] == [int(name.rpartition("seed")[2]) for name in names]


def test_claims_refuse_two_answers_to_which_seed(runs, climbs, capsys):
    assert main(["claims", "--profile", "smoke", "--seeds", "1 2", "--seed", "3"]) == 2
    assert "SEEDS='1 2' and SEED=3" in capsys.readouterr().err
    assert not climbs


@pytest.mark.parametrize("given", [["", "--profile"], ["own"]])
def test_verify_compares_with_a_profile_given_by_path(own, given, capsys):
    assert main(["verify", *given, *[own] * (given[0] == "")]) == 0
    told = capsys.readouterr().out
    assert "0 finished stages" in told
    assert "not compared" not in told


def test_explain_finds_the_run_of_a_profile_given_by_path(own, capsys):
    assert main(["explain", "", "r1-zero", "--profile", own]) == 2
    assert "not finished in" in capsys.readouterr().err


def test_a_run_of_before_keeps_no_file_and_is_given_one_by_the_next_command(own, runs):
    about = runs / "own" / "run.json"
    about.write_text(json.dumps({"profile": "own"}))
    assert RunFolder.existing("own").profile_file == "own"
    load_run(own)[1].claim()
    assert RunFolder.existing("own").profile_file == own


@pytest.mark.parametrize("text", ["{", "[]", '{"profile": 3}', '{"profile": "own", "file": 3}', "null"])
def test_a_damaged_run_file_is_said_to_be(own, runs, text, capsys):
    (runs / "own" / "run.json").write_text(text)
    assert main(["verify", "own"]) == 1
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--run", "own"], ["--profile"]])
def test_clean_run_needs_the_name_alone_and_says_what_goes(own, runs, arguments, capsys):
    (runs / "own" / "file").write_bytes(b"x" * 2**21)
    assert main(["clean-run", *arguments, *[own] * (arguments == ["--profile"])]) == 0
    assert "2.0 MiB, 0 finished stages" in capsys.readouterr().out
    assert not (runs / "own").exists()


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("", False), ("n", False)])
def test_clean_run_asks_in_a_terminal(own, runs, monkeypatch, answer, removed):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert main(["clean-run", "--run", "own"]) == (0 if removed else 1)
    assert (runs / "own").exists() != removed
