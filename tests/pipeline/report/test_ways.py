"""The ways to distil a student, beside RL on it, at equal tokens and at equal seconds."""

import json
from dataclasses import replace

import pytest

from pipeline.core.files import write_json_lines
from pipeline.ladder import DISTILL, STUDENT_RL
from pipeline.report.records import RunRecord
from pipeline.report.tables import distillation_table
from tests.pipeline.report.run_folders import CONFIGS, World, make_run, smoke_profile

TAUGHT = (
    "stages.distill.on_policy={questions: {reasoning: 8}, rewards: [{use: accuracy, weight: 0.0}], "
    "grpo: {max_completion_tokens: 32}}",
    "stages.distill.compare={qwen: [on_policy]}",
)
SECONDS = {"qwen": 8.0, "llama": 9.0, "qwen/on_policy": 20.0}


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunRecord:
    """SFT took 8 seconds; on-policy 20, 2 a step and so 4 steps by then; RL 30 steps of a second, without a curve."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    folder = make_run("ways", smoke_profile(*TAUGHT), world=World(questions=2, samples=2))
    results = folder.stage("evaluate") / "results.json"
    found = json.loads(results.read_text(encoding="utf-8"))
    found["results"]["qwen on-policy"] = found["results"]["qwen distilled"]
    results.write_text(json.dumps(found), encoding="utf-8")
    taught = folder.stage(DISTILL.id) / "students" / "qwen" / "on_policy"
    taught.mkdir()
    write_json_lines(taught / "metrics.jsonl", [{"step": step, "seconds_step": 2.0} for step in range(1, 11)])
    curve = [{"step": step, "set": "reasoning", "pass@1": step / 10} for step in (0, 2, 4, 6, 8, 10)]
    write_json_lines(taught / "heldout.jsonl", curve)
    rl = folder.stage(STUDENT_RL.id)
    write_json_lines(rl / "metrics.jsonl", [{"step": step, "seconds_step": 1.0} for step in range(1, 31)])
    made = RunRecord.as_made("ways")
    distilled = made.stages[DISTILL.id]
    manifest = distilled.manifest.model_copy(
        update={
            "metrics": {output: {"seconds": seconds} for output, seconds in SECONDS.items()},
            "tokens": dict.fromkeys(SECONDS, 4600),
        }
    )
    return replace(made, stages={**made.stages, DISTILL.id: replace(distilled, manifest=manifest)})


def test_each_way_stands_at_equal_tokens_and_at_equal_seconds(run):
    table = distillation_table(run)
    rows = {row["rung"]: row for row in table["rows"]}
    assert list(rows) == ["qwen base", "qwen RL", "qwen on-policy", "qwen distilled"]
    assert table["quickest"] == 8.0
    assert [rows[name]["seconds"] for name in rows] == [None, 30.0, 20.0, 8.0]
    assert rows["qwen on-policy"]["tokens"] == rows["qwen distilled"]["tokens"] == 4600
    assert rows["qwen on-policy"]["early"] == {"value": 0.4}
    assert rows["qwen distilled"]["early"]["value"] == rows["qwen distilled"]["cells"][0]["value"]
    assert rows["qwen RL"]["early"] is None and rows["qwen base"]["early"] is None
