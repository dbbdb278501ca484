"""The audit of a run's verdicts: samples, a second checker, rates with intervals."""

import json

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.files import write_json_lines
from pipeline.report.audit import AUDIT, Verdict, check_by_model, main, rates, read_audit, sampled, share, verdicts_of
from pipeline.report.page import render
from tests.pipeline.engines.fake_server import FakeChat

RIGHT, WRONG = "<think> a </think> <answer> 7 </answer>", "<think> a </think> <answer> 8 </answer>"


def verdict(credited, right=None, by="math-verify"):
    return Verdict("r1_zero", "3+4?", "7", RIGHT, credited, {} if right is None else {by: right})


def row(verdict, text, answer="7"):
    return {"prompt": "3+4?", "answer": answer, "completion": text, "verdicts": {"accuracy": verdict}}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose reward has credited one wrong answer and refused one right answer, of twelve verdicts."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "mine"
    (folder / "r1_zero" / "rollouts").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"profile": "smoke"}))
    rows = [row("correct", RIGHT)] * 5 + [row("wrong", WRONG)] * 5 + [row("correct", WRONG), row("wrong", RIGHT)]
    others = [row("gold_unusable", RIGHT), row("correct", RIGHT, None), {"prompt": "Hi", "completion": RIGHT}]
    write_json_lines(folder / "r1_zero" / "rollouts" / "step-000001.jsonl", rows + others)
    return folder


def test_an_audit_finds_what_the_reward_got_wrong_and_the_report_shows_it(run, capsys):
    assert main(["mine", "--samples", "100"]) == 0
    found = read_audit(run)
    assert (found["verdicts"], found["credited"], found["sampled"]) == (12, 6, 12)
    by = found["checkers"]["math-verify"]
    assert by["false_credit"][0] == pytest.approx(1 / 6)
    assert by["false_refusal"][0] == pytest.approx(1 / 6)
    assert sorted(one["credited"] for one in found["disagreements"]) == [False, True]
    assert "16.7 %" in capsys.readouterr().out
    assert "16.7 %" in render("audit.html", audit=found)
    assert not render("audit.html", audit=None).strip()


def test_a_run_without_verdicts_is_refused(run, capsys):
    (run / "r1_zero" / "rollouts" / "step-000001.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no rollouts or samples"):
        verdicts_of(run)
    assert main(["mine"]) == 2
    assert "no rollouts" in capsys.readouterr().err
    assert not (run / AUDIT).exists()


def test_both_kinds_of_verdicts_are_sampled_alike_and_always_the_same():
    verdicts = [verdict(credited=place % 10 == 0) for place in range(1000)]
    chosen = sampled(verdicts, 100)
    assert [one.credited for one in chosen].count(True) == 50
    assert list(map(id, chosen)) == list(map(id, sampled(verdicts, 100)))
    assert len(sampled(verdicts, 400)) == 100 + 200


def test_rates_weigh_the_halves_of_the_sample_by_what_they_stand_for():
    sample = (
        [verdict(True, True)] * 9 + [verdict(True, False)] + [verdict(False, False)] * 8 + [verdict(False, True)] * 2
    )
    found = rates(sample, credited=100, refused=900)
    assert found.false_credit[0] == pytest.approx(10 / (10 + 720))
    assert found.false_refusal[0] == pytest.approx(180 / (90 + 180))
    for value, low, high in (found.false_credit, found.false_refusal):
        assert 0 <= low < value < high <= 1
    assert rates([verdict(True)], 1, 0).checked == 0


def test_more_answers_make_the_interval_of_a_share_narrower():
    widths = [high - low for _, low, high in (share(count, 5 * count) for count in (2, 20, 200))]
    assert widths == sorted(widths, reverse=True)
    assert share(0, 0)[1:] == (0.0, 1.0)


def test_a_model_judges_too_and_is_the_one_that_counts():
    says = {
        "[Solution]\nyes": "<think> CORRECT? no. </think> WRONG",
        "[Solution]\nno": "CORRECT",
        "[Solution]\nhm": "?",
    }
    server = FakeChat(lambda text: next(said for part, said in says.items() if part in text))
    try:
        asked = [Verdict("s", "q", "7", text, True, {"math-verify": True}) for text in ("yes", "no", "hm")]
        assert check_by_model(asked, server.api, "checker", None) == 1
    finally:
        server.stop()
    assert [one.right for one in asked] == [False, True, True]
