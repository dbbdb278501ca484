"""A stage's time is that of all attempts at it: those that were interrupted, those that were killed, and the last."""

import json
import os

import pytest

from pipeline.core.manifest import Manifest
from pipeline.runs.attempts import ATTEMPTS, Attempts
from pipeline.steps.context import StageResult


class Clock:
    """The module's clock, moved by hand."""

    def __init__(self, monkeypatch):
        self.now = 1_000_000.0
        monkeypatch.setattr("pipeline.runs.attempts.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_attempts_add_up_in_the_manifest(ladder, clock):
    def stopped(ctx):
        clock.now += 100
        raise KeyboardInterrupt

    def whole(ctx):
        clock.now += 7
        (ctx.folder / "checkpoint").mkdir(exist_ok=True)
        (ctx.folder / "checkpoint" / "weights").write_text("w")
        return StageResult(outputs=["checkpoint"])

    for body in (stopped, stopped):
        ladder.bodies["r1_zero"] = body
        with pytest.raises(KeyboardInterrupt):
            ladder.run("r1_zero")
    ladder.bodies["r1_zero"] = whole
    ladder.run("r1_zero")
    manifest = Manifest.read(ladder.folder.stage("r1_zero"))
    assert (manifest.wall_seconds, manifest.attempts) == (207, 3)
    assert not (ladder.folder.stage("r1_zero") / ATTEMPTS).exists()


def test_an_attempt_that_was_killed_counts_to_its_last_sign_of_life(tmp_path, clock):
    attempt = Attempts(tmp_path).one_more()
    attempt.__enter__()  # and never left
    started = json.loads((tmp_path / ATTEMPTS).read_text())["started"]
    (tmp_path / "log.txt").write_text("step 3")
    for path in tmp_path.iterdir():
        os.utime(path, (started + 60, started + 60))
    clock.now += 10_000
    again = Attempts(tmp_path)
    with again.one_more():
        clock.now += 5
    assert (again.seconds, again.count) == (pytest.approx(65, abs=1e-3), 2)


@pytest.mark.parametrize("damaged", ["", "{", "[1]", '{"started": "x"}', '{"started": 1}\n{"sec'])
def test_a_damaged_record_stops_nothing(tmp_path, damaged):
    (tmp_path / ATTEMPTS).write_text(damaged)
    again = Attempts(tmp_path)
    with again.one_more():
        pass
    assert again.count == 1
