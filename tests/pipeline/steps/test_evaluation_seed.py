"""Evaluation depends on its own seed, not on the run's."""

import json
import logging
from types import SimpleNamespace

import pytest

from pipeline.config.loading import load_profile
from pipeline.core.console import Progress
from pipeline.engines import Completion
from pipeline.steps.context import StageContext
from stages import evaluate

LOG = logging.getLogger("test evaluation")


class Engine:
    """Writes what the seed says."""

    tokenizer = None

    def generate(self, prompts, n, sampling, on_progress=None, on_group=None):
        return [
            [Completion([1], f"{prompt} {sampling.seed} {k}", None, "stop") for k in range(n)] for prompt in prompts
        ]


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """`evaluated(run_seed, evaluation_seed)`: the samples of one checkpoint, as they are written down."""
    stage = SimpleNamespace(id="general_rl", template="chat")
    monkeypatch.setattr(
        evaluate, "rungs", lambda *_: [SimpleNamespace(name="R1", stage=stage, checkpoint="checkpoint")]
    )
    monkeypatch.setattr(evaluate, "fitting_prompts", lambda ctx, rows, *_: (rows, [row.question for row in rows]))

    def samples(run_seed, evaluation_seed):
        profile = load_profile("smoke", [f"seed={run_seed}", f"stages.evaluate.seed={evaluation_seed}"]).profile
        engine, folder = Engine(), tmp_path / f"{run_seed} {evaluation_seed}"
        folder.mkdir()
        context = StageContext(
            stage_id="evaluate", run="test", profile=profile, config=profile.stages.evaluate,
            inputs={"general_rl": SimpleNamespace(folder=tmp_path)}, folder=folder, device="cpu", log=LOG,
            progress=lambda what, total: Progress(what, total, LOG, quiet=True),
            engines=SimpleNamespace(current=engine, serve=lambda *_: engine),
        )  # fmt: skip
        evaluate.run(context)
        files = sorted((folder / "samples").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    return samples


def test_two_runs_are_evaluated_alike_and_another_seed_of_evaluation_is_another_evaluation(evaluated):
    first = evaluated(0, 7)
    assert first and evaluated(1, 7) == first
    assert evaluated(0, 8) != first
