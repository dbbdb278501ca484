"""`keep_best`: the weights of the best held-out evaluation are what a run saves."""

import pytest
import torch

from pipeline.training.best import BEST, BestWeights
from tests.pipeline.training.grpo.runs import Stop, run, settings, weights_of


def model(value: float) -> torch.nn.Module:
    layer = torch.nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(value)
    return layer


def offered(folder, scores: dict[int, float], first_step: int = 0) -> BestWeights:
    """Each step's weights are its number."""
    best = BestWeights(folder, first_step)
    for step, score in scores.items():
        best.offer(step, score, model(step))
    return best


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ({0: 0.1, 2: 0.5, 4: 0.3}, 2),
        ({0: 0.5, 2: 0.1, 4: 0.3}, 0),
        ({0: 0.1, 2: 0.5, 4: 0.5}, 4),
        ({0: float("-inf"), 2: -1.0}, 2),
    ],
    ids=["middle", "start", "later of equals", "negative"],
)
def test_the_highest_score_is_kept_and_only_what_trains_is_put_back(tmp_path, scores, kept):
    best = offered(tmp_path, scores)
    assert best.best == (kept, scores[kept])
    into = model(-1.0)
    best.load_into(into)
    assert into.weight.tolist() == [[kept, kept]] and into.bias.item() == -1.0


def files(folder) -> list[int]:
    return sorted(int(file.stem.removeprefix("step-")) for file in (folder / BEST).iterdir())


def test_a_candidate_stays_until_a_run_can_resume_after_the_best(tmp_path):
    best = offered(tmp_path, {0: 0.1, 2: 0.2, 6: 0.9})
    best.forget_others(resumable=4)
    assert files(tmp_path) == [0, 2, 6]
    resumed = BestWeights(tmp_path, first_step=4)
    assert resumed.best == (2, 0.2) and files(tmp_path) == [0, 2]
    resumed.offer(6, 0.9, model(6))
    resumed.forget_others(resumable=6)
    assert files(tmp_path) == [6] and BestWeights(tmp_path, first_step=6).best == (6, 0.9)


SCORES = {0: 0.2, 2: 0.9, 4: 0.5, 5: 0.4}


@pytest.mark.parametrize("keep_best", [True, False])
def test_a_run_hands_on_its_best_weights_whether_it_was_interrupted_or_not(start, engine, tmp_path, keep_best):
    seen = []

    def score(step, engine):
        seen.append(step)
        return SCORES[step]

    def break_off(record):
        if record["step"] == 5 and not (tmp_path / "broken").is_file():
            (tmp_path / "broken").touch()
            raise Stop

    chosen = settings(max_steps=5, keep_checkpoints=9)
    more = {"eval_hook": score, "eval_every": 2, "keep_best": keep_best, "log": break_off}
    with pytest.raises(Stop):
        run(start, engine, tmp_path, chosen, **more)
    result = run(start, engine, tmp_path, chosen, resume=True, **more)
    assert seen == ([0, 2, 4, 5] if keep_best else [0, 2, 4])
    assert result.kept == ({"step": 2, "score": 0.9} if keep_best else None) and result.steps == 5
    saved = weights_of(tmp_path / "checkpoint")
    for step in (2, 4):
        then = weights_of(tmp_path / "trainer" / f"checkpoint-{step}")
        assert all(torch.equal(saved[name], weight) for name, weight in then.items()) == (keep_best and step == 2)
