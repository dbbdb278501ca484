"""`make all BUDGET=…`: the time is kept on machines of any speed, the bounds are kept, and a resumed run goes on alike.

The real runner over stages that only move a clock on, by what their sizes cost.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipeline.config.loading import SHIPPED_PROFILES, load_profile
from pipeline.config.stages import RLStage
from pipeline.core.errors import ConfigError
from pipeline.ladder import LADDER
from pipeline.runs.bounds import bounds_of, overrides, value_at
from pipeline.runs.budget import Budget, Measured, duration, parse_duration, read_record
from pipeline.runs.loading import load_run
from pipeline.runs.runner import run_stages, stage_states
from pipeline.steps.context import StageResult

RL_STAGES = ("r1_zero", "reasoning_rl", "general_rl")
TAKES = {
    "base_model": 5, "r1_zero": 250, "cold_start_data": 90, "cold_start_sft": 9, "reasoning_rl": 250,
    "rejection_sampling": 90, "sft": 9, "reward_model": 30, "general_rl": 250, "distill": 9, "student_rl": 20,
    "evaluate": 60, "report": 1,
}  # fmt: skip
LARGER = {
    "extends": str(SHIPPED_PROFILES / "smoke.yaml"), "name": "larger", "takes_s": TAKES, "budget": {"step_s": 4.0},
    "stages": {name: {"grpo": {"max_steps": 60}} for name in RL_STAGES}
    | {name: {"questions": {"reasoning": 400}} for name in ("cold_start_data", "rejection_sampling")},
}  # fmt: skip
MEASURED = Measured(written_s=0.0075, trained_s=0.0075, step_s=4.0, start_s=2.0, max_sequences=64)


class Machine:
    """A clock that stages move on. `speed`: seconds that a unit of work takes; `speeds`: for stages that differ."""

    def __init__(self, ladder, monkeypatch, tmp_path, speed=1.0):
        self.now, self.speed, self.speeds, self.measured = 0.0, speed, {}, 0
        self.runs = tmp_path / "runs" / "larger"
        self.profile = str(tmp_path / "larger.yaml")
        self.changed(LARGER)
        self.ladder = ladder
        monkeypatch.setattr("pipeline.runs.attempts.time", SimpleNamespace(monotonic=lambda: self.now))
        for stage in LADDER:
            ladder.bodies[stage.id] = self._body

    def changed(self, profile):
        Path(self.profile).write_text(yaml.safe_dump(profile))

    def seconds(self, stage_id, section) -> float:
        """What the stage takes: an independent idea of it, not that of the product."""
        if isinstance(section, RLStage) and stage_id in RL_STAGES:
            work = 2 + section.grpo.max_steps * section.grpo.group_size * section.grpo.prompts_per_step * 0.25
        elif hasattr(section, "samples_per_question"):
            work = 1 + sum(section.questions.values()) * section.samples_per_question * 0.12
        else:
            work = {"evaluate": 60, "student_rl": 18, "reward_model": 25}.get(stage_id, 5)
        return work * self.speeds.get(stage_id, self.speed)

    def _body(self, ctx):
        self.now += self.seconds(ctx.stage_id, ctx.config)
        for name in ("checkpoint/weights", "students/qwen"):
            (ctx.folder / name).parent.mkdir(exist_ok=True)
            (ctx.folder / name).write_text(ctx.stage_id)
        return StageResult(outputs=["checkpoint", "students"])

    def _measure(self, seconds, reload, chosen, bounds, scratch, opened):
        self.measured += 1
        self.now += seconds
        return MEASURED.model_copy(update={"step_s": 4.0 * self.speed, "written_s": 0.0075 * self.speed,
                                           "trained_s": 0.0075 * self.speed})  # fmt: skip

    def budget(self, seconds, *sets):
        keys = [word.partition("=")[0] for word in sets]

        def reload(chosen):
            return load_profile(self.profile, [*chosen, *sets]).profile

        return Budget(self.runs, reload, self._measure, seconds, keys, clock=lambda: self.now)

    def run(self, seconds, *sets):
        """Runs under a budget (None: the recorded one). Returns the seconds that it took."""
        begun = self.now
        budget = self.budget(seconds, *sets)
        profile, run = load_run(self.profile, sets)
        run_stages(profile, run, None, budget=budget)
        return self.now - begun

    @property
    def chosen(self):
        return read_record(self.runs).chosen


@pytest.fixture
def machine(ladder, monkeypatch, tmp_path):
    return Machine(ladder, monkeypatch, tmp_path)


def error_share(took, given):
    return abs(took - given) / given


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_the_time_is_kept_on_machines_of_any_speed(machine, speed):
    machine.speed = speed
    assert error_share(machine.run(500 * speed), 500 * speed) < 0.1


def test_the_time_is_kept_without_seconds_of_the_profile(machine):
    machine.changed({**LARGER, "takes_s": dict.fromkeys(TAKES), "budget": {}})
    assert error_share(machine.run(500), 500) < 0.1


@pytest.mark.parametrize("stage", ["r1_zero", "reasoning_rl"])
def test_stages_after_one_that_took_twice_as_long_are_made_smaller(machine, stage):
    machine.speeds[stage] = 2.0
    took = machine.run(600)
    assert error_share(took, 600) < 0.1, took


def test_sizes_stay_within_their_bounds_are_recorded_and_told_in_a_few_lines(machine, capsys):
    machine.run(500)
    lines = [line for line in capsys.readouterr().err.splitlines() if "budget:" in line]
    assert "measured here" in lines[0] and "8m20s" in lines[1] and "r1_zero" in lines[2] and "max_steps" in lines[2]
    assert len(lines) <= 2 * len(LADDER)
    bounds = machine.budget(None).bounds
    assert set(machine.chosen) == set(bounds)
    assert all(bounds[key][0] <= value <= bounds[key][1] for key, value in machine.chosen.items())
    assert 10 < machine.chosen["stages.r1_zero.grpo.max_steps"] < 60


def test_with_time_enough_every_size_is_at_its_most(machine):
    machine.run(10_000)
    assert machine.chosen == {key: most for key, (_, most) in machine.budget(None).bounds.items()}


def test_a_budget_that_cannot_be_kept_is_refused_before_anything_trains(machine):
    with pytest.raises(ConfigError, match=r"BUDGET=2m cannot be kept.*r1_zero.*Give BUDGET=\w+ or more") as caught:
        machine.run(120)
    assert machine.ladder.ran == ["base_model"] and read_record(machine.runs) is None
    enough = parse_duration(str(caught.value).rpartition("Give BUDGET=")[2].split()[0])
    assert error_share(machine.run(enough), enough) < 0.1


def test_a_machine_that_gets_too_slow_is_reported_and_the_least_sizes_are_taken(machine, capsys):
    machine.speeds = {"r1_zero": 6.0}
    machine.run(400)
    assert "cannot be kept any more" in capsys.readouterr().err
    assert machine.chosen["stages.general_rl.grpo.max_steps"] == machine.budget(None).bounds[
        "stages.general_rl.grpo.max_steps"][0]  # fmt: skip


def test_an_interrupted_run_goes_on_with_the_sizes_that_it_had_and_the_time_that_is_left(machine):
    def interrupted(ctx):
        machine.now += 40
        raise KeyboardInterrupt

    machine.ladder.bodies["reasoning_rl"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        machine.run(600)
    before, used = machine.chosen, machine.now
    machine.ladder.bodies["reasoning_rl"] = machine._body
    machine.now += 5000  # nobody was there
    took = machine.run(None)
    assert machine.measured == 1
    assert before.items() <= machine.chosen.items()
    assert error_share(used + took, 600) < 0.1


def test_every_later_command_sees_the_stages_as_done(machine):
    machine.run(600)
    profile, run = load_run(machine.profile)
    assert {state.state for state in stage_states(profile, run).values()} == {"done"}
    assert machine.run(None) == 0


def test_what_the_user_sets_is_left_as_it_is(machine):
    machine.run(600, "stages.r1_zero.grpo.group_size=6")
    assert "stages.r1_zero.grpo.group_size" not in machine.chosen
    manifest = json.loads((machine.runs / "r1_zero" / "manifest.json").read_text())
    assert manifest["config"]["stage"]["grpo"]["group_size"] == 6


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_PROFILES.glob("*.yaml")))
def test_every_shipped_profile_has_bounds_that_are_valid_at_both_ends(name, tmp_path):
    profile = load_profile(name).profile
    bounds = bounds_of(profile)
    assert any(key.endswith("max_steps") for key in bounds)
    for end in (0, 1):
        sized = load_profile(name, overrides({key: bound[end] for key, bound in bounds.items()})).profile
        assert all(value_at(sized, key) == bound[end] for key, bound in bounds.items())


@pytest.mark.parametrize(
    ("bounds", "parts"),
    [
        ({"stages.r1_zero.grpo.max_steps": [9, 3]}, ["[9, 3]", "swap"]),
        ({"stages.evaluate.sets.reasoning.questions": [1, 3]}, ["stages.evaluate.sets.reasoning.questions"]),
        ({"seed": [1, 3]}, ["'seed'"]),
        ({"stages.r1_zero.grpo.steps": [1, 3]}, ["stages.r1_zero.grpo.steps", "None"]),
        ({"stages.r1_zero.grpo.learning_rate": [1, 3]}, ["learning_rate", "whole number"]),
    ],
)
def test_bounds_that_cannot_be_are_refused_by_name(bounds, parts):
    with pytest.raises(ConfigError) as caught:
        bounds_of(load_profile("smoke", [f"budget.bounds={json.dumps(bounds)}"]).profile)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_bounds_that_clash_with_the_rest_of_the_profile_are_refused(machine):
    machine.changed({**LARGER, "budget": {"bounds": {"stages.r1_zero.grpo.max_completion_tokens": [16, 4000]}}})
    with pytest.raises(ConfigError, match=r"at its most.*max_completion_tokens is 4000"):
        machine.budget(600)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1.5h", 5400), ("45s", 45), ("1h 5 m", 3900)]
)
def test_a_duration_is_read_and_written(text, seconds):
    assert parse_duration(text) == seconds == parse_duration(duration(seconds))


@pytest.mark.parametrize("text", ["2", "h", "two hours", "-2h", "0h", "2h!", "1d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="expected hours"):
        parse_duration(text)


def test_only_the_whole_ladder_takes_a_budget(monkeypatch, tmp_path, capsys):
    from pipeline.cli import main

    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    assert main(["run", "r1_zero", "--profile", "smoke", "--budget", "2h"]) == 2
    assert "make all" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
