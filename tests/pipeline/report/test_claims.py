"""Claims are judged from figures alone, and one that does not hold is reported as such."""

import json

import pytest

from pipeline.config.loading import load_profile
from pipeline.report.claims import judge_run
from pipeline.runs.folder import RunFolder

RUNGS = {
    "base": 0.1, "R1-Zero": 0.8, "Dev1": 0.6, "Dev2": 0.8, "Dev3": 0.75, "R1": 0.8, "qwen base": 0.0,
    "llama base": 0.1, "qwen distilled": 0.6, "llama distilled": 0.6, "qwen RL": 0.3,
}  # fmt: skip


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Verdicts by name for a run with the given pass@1 of each rung."""
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)

    def judge(wordless=False, **changed) -> dict[str, bool | None]:
        rates = RUNGS | {name.replace("_", " ") if name not in RUNGS else name: rate for name, rate in changed.items()}
        run = RunFolder("r", "pocket")
        samples = run.stage("evaluate") / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        results = {}
        for rung, rate in rates.items():
            general = 0.9 if rung == "R1" else 0.5
            results[rung] = {}
            for name in ("reasoning", "general", "harmless"):
                share = rate if name == "reasoning" else general
                results[rung][name] = {
                    "pass@1": share, "cons@16": min(1.0, share + 0.1),
                    "mixed": None if wordless else 0.5 if rung == "R1-Zero" else 0.0,
                    "language_consistency": None if wordless else 0.5 if rung == "R1-Zero" else 0.99,
                    "reflection": 0.2 if rung == "R1-Zero" else 0.05,
                }  # fmt: skip
                rows = [{"question_id": str(q), "score": float(q % 100 < 100 * share)} for q in range(100)]
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (samples / f"{rung}-{name}.jsonl").write_text(text)
        (run.stage("evaluate") / "results.json").write_text(json.dumps({"results": results}))
        run.stage("r1_zero").mkdir(exist_ok=True)
        lengths = "".join(json.dumps({"step": s, "completion_tokens": 10 + s}) + "\n" for s in range(20))
        (run.stage("r1_zero") / "metrics.jsonl").write_text(lengths)
        return {claim.name: claim.held for claim in judge_run(load_profile("pocket").profile, run)}

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
    ],
)
def test_a_missing_effect_fells_its_claim_and_no_other(judged, changed, fallen):
    assert {name for name, held in judged(**changed).items() if held is False} == fallen
