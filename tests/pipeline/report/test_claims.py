"""Claims are judged from figures alone, and one that does not hold is reported as such."""

import json

import pytest

from pipeline.config.loading import load_profile
from pipeline.report.claim import counted, print_claims
from pipeline.report.claims import judge_run, judge_together
from pipeline.report.run_figures import MeanFigures, RunFigures
from pipeline.runs.folder import RunFolder

RUNGS = {
    "base": 0.1, "R1-Zero": 0.8, "Dev1": 0.6, "Dev2": 0.8, "Dev3": 0.8, "R1": 0.8, "qwen base": 0.0,
    "llama base": 0.1, "qwen distilled": 0.6, "llama distilled": 0.6, "qwen RL": 0.3,
}  # fmt: skip


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A run with the given pass@1 of each rung; `best_general` has the best general answers."""
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)

    def make(
        number=0,
        wordless=False,
        best_general="R1",
        curve=(0.1, 0.7, 0.81, 0.8),
        reflection=0.2,
        lengths=range(10, 50, 2),
        **changed,
    ):
        rates = RUNGS | {name.replace("_", " ") if name not in RUNGS else name: rate for name, rate in changed.items()}
        run = RunFolder(f"r{number}", "pocket")
        samples = run.stage("evaluate") / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        results = {}
        for rung, rate in rates.items():
            general = 0.9 if rung == "R1" else 0.95 if rung == best_general else 0.5
            results[rung] = {}
            for name in ("reasoning", "general", "harmless"):
                share = rate if name == "reasoning" else general
                results[rung][name] = {
                    "pass@1": share, "cons@16": min(1.0, share + 0.1),
                    "mixed": None if wordless else 0.5 if rung == "R1-Zero" else 0.0,
                    "language_consistency": None if wordless else 0.5 if rung == "R1-Zero" else 0.99,
                    "reflection": reflection if rung == "R1-Zero" else 0.05,
                }  # fmt: skip
                rows = [{"question_id": str(q), "score": float(q % 100 < 100 * share)} for q in range(100)]
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (samples / f"{rung}-{name}.jsonl").write_text(text)
        (run.stage("evaluate") / "results.json").write_text(json.dumps({"results": results}))
        run.stage("r1_zero").mkdir(exist_ok=True)
        lengths = "".join(json.dumps({"step": s, "completion_tokens": n}) + "\n" for s, n in enumerate(lengths))
        (run.stage("r1_zero") / "metrics.jsonl").write_text(lengths)
        points = "".join(json.dumps({"step": 5 * n, "pass@1": rate}) + "\n" for n, rate in enumerate(curve))
        (run.stage("r1_zero") / "heldout.jsonl").write_text(points)
        return load_profile("pocket").profile, run

    return make


@pytest.fixture
def judged(made):
    """Verdicts by name for a run as `made` makes it."""

    def judge(**changed) -> dict[str, bool | None]:
        return {claim.name: claim.held for claim in judge_run(*made(**changed))}

    return judge


def test_a_run_with_every_effect_holds_every_claim(judged):
    assert set(judged().values()) == {True}


def test_answers_without_words_say_nothing_about_languages(judged):
    verdicts = judged(wordless=True)
    assert {name for name, held in verdicts.items() if held is None} == {"zero-mixes", "consistency", "cold-start"}
    assert {held for held in verdicts.values() if held is not None} == {True}


@pytest.mark.parametrize(
    ("changed", "fallen"),
    [
        ({"base": 0.4}, {"zero-gain"}),
        ({"Dev1": 0.8}, {"cold-start", "won-back"}),
        ({"Dev2": 0.6}, {"consistency", "won-back"}),
        ({"qwen_distilled": 0.1}, {"distill-qwen", "distill-beats-rl"}),
        ({"qwen_RL": 0.7}, {"distill-beats-rl"}),
        ({"qwen_base": 0.35}, {"rl-loses-nothing"}),
        ({"Dev3": 0.78}, {"sft-keeps"}),
        ({"R1": 0.79, "Dev3": 0.79}, set()),
        ({"R1": 0.7}, {"reasoning-kept", "rl-loses-nothing"}),
        ({"best_general": "Dev1"}, {"general", "general-best"}),
        ({"curve": (0.1, 0.83, 0.8)}, {"zero-ends-best"}),
        ({"curve": (0.1, 0.81, 0.8)}, set()),
        ({"lengths": range(20, 40)}, {"length-grows"}),
        ({"lengths": [10] * 5 + [40] * 15}, {"length-keeps-growing"}),
        ({"reflection": 0.14}, {"reflection"}),
        ({"reflection": 0.16}, set()),
    ],
)
def test_a_missing_effect_fells_its_claim_and_no_other(judged, changed, fallen):
    assert {name for name, held in judged(**changed).items() if held is False} == fallen


def test_a_run_without_a_curve_says_nothing_about_its_best(judged):
    assert judged(curve=())["zero-ends-best"] is None


def test_questions_asked_twice_are_one_of_a_paired_test(made):
    """Ten questions, each drawn ten times, are no hundred."""
    profile, run = made(Dev1=0.6, Dev2=0.8)
    before = RunFigures(profile, run).difference("Dev2", "Dev1")
    for rung in ("Dev1", "Dev2"):
        path = run.stage("evaluate") / "samples" / f"{rung}-reasoning.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row | {"question": row["question_id"][0]}) + "\n" for row in rows))
    after = RunFigures(profile, run).difference("Dev2", "Dev1")
    assert after.high - after.low > 1.5 * (before.high - before.low)


def test_runs_together_are_tested_by_their_means(made):
    """R1 is 3 points below R1-Zero in one seed and 2 above it in the other: 0.5 below on the mean."""
    runs = [made(0, R1=0.77), made(1, R1=0.82)]
    alone = [{claim.name: claim.held for claim in judge_run(*run)}["reasoning-kept"] for run in runs]
    together = {claim.name: claim for claim in judge_together(runs)}
    assert alone == [False, True] and together["reasoning-kept"].held is True
    assert "-0.5 points" in together["reasoning-kept"].figures
    assert set(together) == {claim.name for claim in judge_run(*runs[0])}


def test_a_difference_that_one_seed_leaves_open_is_settled_by_several(made):
    """Dev2 above Dev1 by two questions of a hundred, others in each seed."""
    runs = [made(n, Dev1=0.80, Dev2=0.80) for n in range(3)]
    for n, (_, run) in enumerate(runs):
        rows = [{"question_id": str(q), "score": float(q < 80 or q in (90 + 2 * n, 91 + 2 * n))} for q in range(100)]
        path = run.stage("evaluate") / "samples" / "Dev2-reasoning.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = [RunFigures(*run) for run in runs]
    assert all(f.difference("Dev2", "Dev1").low <= 0 for f in figures)
    together = MeanFigures(figures).difference("Dev2", "Dev1")
    assert together.mean == pytest.approx(0.02) and together.low > 0


def test_verdicts_of_seeds_stand_side_by_side(made, capsys):
    runs = [made(0, R1=0.7), made(1)]
    verdicts = {f"seed {n}": judge_run(*run) for n, run in enumerate(runs)} | {"together": judge_together(runs)}
    print_claims(verdicts)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("seed 0", "seed 1", "together"))
    kept = [
        name
        for name in (claim.name for claim in verdicts["seed 0"])
        if name not in ("reasoning-kept", "rl-loses-nothing")
    ]
    assert f"in every seed and together: {len(kept)} (" in printed.replace("\n", " ")


def test_what_so_many_questions_leave_open_is_not_called_refuted(made):
    """Dev2 above Dev1 by one question of a hundred; distilling below RL by ten, question by question."""
    claims = {claim.name: claim for claim in judge_run(*made(Dev1=0.79, Dev2=0.8, qwen_RL=0.7))}
    assert claims["won-back"].in_words == "? not decided by 100 questions"
    assert claims["distill-beats-rl"].in_words == "✗ refuted"
    assert claims["zero-gain"].in_words == "✓ holds"
    assert counted(claims.values()).startswith(f"{sum(c.held for c in claims.values())} of {len(claims)} effects hold")


def test_a_claim_that_fails_by_what_is_certain_is_refuted(made):
    """The cost of the cold start is open, and it bought no readability."""
    profile, run = made(Dev1=0.8)
    path = run.stage("evaluate") / "results.json"
    results = json.loads(path.read_text())
    results["results"]["Dev1"]["reasoning"]["language_consistency"] = 0.1
    path.write_text(json.dumps(results))
    assert next(c for c in judge_run(profile, run) if c.name == "cold-start").in_words == "✗ refuted"
