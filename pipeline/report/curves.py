"""Curves of the RL stages: what each chart shows, as data for the page's script."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.config.rewards import scorer_named
from pipeline.core.figures import short
from pipeline.ladder import of_kind
from pipeline.report.records import RunRecord, StageRecord

RL_STAGES = tuple(stage.id for stage in of_kind("rl"))
MOST_POINTS = 1200
"""Points per line; longer ones are averaged over equal intervals of steps."""

Getter = Callable[[dict], float | None]


def stage_curves(runs: list[RunRecord], stage_id: str) -> dict[str, Any] | None:
    """The charts of one RL stage, the runs overlaid in the order given; None where no run has a step yet.

    A chart is {title, unit, lines: [{name, run, x, y, low?, high?}]}; x are optimizer steps, low and high a 95 %
    interval.
    """
    records = [(run, _steps(run.stages[stage_id])) for run in runs]
    heldout = [(run, run.stages[stage_id].lines("heldout.jsonl")) for run in runs]
    if not any(steps for _, steps in records):
        return None
    owner = next(run for run, steps in records if steps)
    charts = []
    for title, unit, training, held in _charts(records, heldout):
        lines = [_line(name, run, rows, get) for run, rows in records for name, get in training.items()]
        lines += [_line(name, run, rows, get) for run, rows in heldout for name, get in held.items()]
        lines = [line for line in lines if line["x"]]
        if lines:
            charts.append({"title": title, "unit": unit, "lines": lines})
    last_step = max(row["step"] for run, rows in records if run is owner for row in rows)
    return {
        "id": stage_id,
        "runs": [run.name for run in runs],
        "charts": charts,
        "marks": marks(owner, stage_id, last_step),
    }


def _charts(records, heldout):
    """(title, unit, lines of metrics.jsonl, lines of heldout.jsonl) of each chart, in reading order."""
    rewards = {label: _reward(label) for _, rows in records for row in rows[:1] for label in row["rewards"]}
    votes = sorted({key for _, rows in heldout for row in rows for key in row if key.startswith("cons@")})
    yield "Held-out accuracy", "share", {}, {"pass@1": _key("pass@1"), **{vote: _key(vote) for vote in votes}}
    yield "Training rewards, each apart", "mean", rewards, {}
    yield "Reward in all", "weighted sum", {"mean": _key("reward"), "standard deviation": _key("reward_std")}, {}
    length = {"mean": _key("completion_tokens"), "longest": _key("completion_tokens_max")}
    yield "Response length", "tokens", length, {"held-out mean": _key("mean_tokens")}
    yield "KL to the reference", "nats a token", {"KL": _key("kl")}, {}
    yield "Entropy", "nats a token", {"entropy": _key("entropy")}, {}
    yield (
        "Groups of equal rewards",
        "share",
        {
            "as drawn": _key("zero_spread"),
            "chosen": _key("zero_spread_trained"),
            "after resampling": _key("zero_spread_after_resampling"),
        },
        {},
    )
    yield "Cut at the length limit", "share", {"training": _key("truncated")}, {"held-out": _key("truncated")}
    yield "Format", "share", {}, {"held-out": _key("format")}
    language = {"consistency": _key("language_consistency"), "answers that mix": _key("mixed")}
    yield "Language, held-out", "share", {}, language
    phases = {name: _key(f"seconds_{name}") for name in ("rollout", "scoring", "sync", "update")}
    yield "Time a step, by phase", "seconds", phases, {}
    speeds = {"rollout": _key("rollout_tokens_per_second"), "update": _key("update_tokens_per_second")}
    yield "Speed, by phase", "tokens/s", speeds, {}
    yield "Gradient norm", "norm", {"before clipping": _key("grad_norm")}, {}
    yield "Most loaded expert, above the mean", "share", {"worst layer": _key("max_violation")}, {}
    yield "Idle experts", "experts of all layers", {"under a tenth of the mean": _key("idle_experts")}, {}
    yield "Routed otherwise than in the engine", "share", {"tokens and layers": _key("routed_otherwise_share")}, {}
    yield "Clipped ratios", "share of tokens", {"clipped": _key("clip_ratio/region_mean")}, {}


def specs_of(stage: StageRecord, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the profile says of the rewards called `names` in the stage's records.

    The trainer writes those of the profile first, in its order; what a recipe adds (`overlong`) stands behind them and
    has nothing in the profile.
    """
    return dict(zip(names, stage.config["rewards"], strict=False))


def reward_labels(stage: StageRecord, names: Iterable[str]) -> dict[str, str]:
    """What the page calls the rewards called `names` in the records: a scorer of the ladder by what it scores, any
    other as it is, with its number apart."""
    names = list(names)
    specs, labels = specs_of(stage, names), {}
    for name in names:
        scorer = scorer_named(specs[name]["args"]) if name in specs else None
        label = f"{scorer} model" if scorer else re.sub(r"_(\d+)$", r" \1", name)
        labels[name] = name if label in labels.values() else label
    return labels


def labelled(stage: StageRecord, rewards: dict[str, Any]) -> dict[str, Any]:
    """Values of the rewards under their `reward_labels` instead of their names in the records."""
    labels = reward_labels(stage, rewards)
    return {labels[name]: value for name, value in rewards.items()}


def _steps(stage: StageRecord) -> list[dict]:
    return [{**row, "rewards": labelled(stage, row["rewards"])} for row in stage.lines("metrics.jsonl")]


def marks(run: RunRecord, stage_id: str, last_step: int) -> list[dict[str, Any]]:
    """Where the run changed: reference refreshes, length limits, and rewards that begin; and the step whose weights
    were handed on, where that was chosen. {step, what}."""
    config, found = run.stages[stage_id].config, []
    every = config["grpo"]["reference_refresh_steps"]
    if config["grpo"]["beta"] > 0 and every:
        found += [{"step": step, "what": "reference refreshed"} for step in range(every, last_step + 1, every)]
    for change in config["grpo"]["max_completion_schedule"]:
        found.append({"step": change["from_step"], "what": f"up to {change['tokens']} tokens"})
    first = next(iter(run.stages[stage_id].lines("metrics.jsonl")), {"rewards": {}})["rewards"]
    labels = reward_labels(run.stages[stage_id], first)
    for name, spec in specs_of(run.stages[stage_id], first).items():
        if spec["schedule"]:
            found.append({"step": spec["schedule"]["from_step"], "what": f"{labels[name]} counts"})
    if kept := run.stages[stage_id].metrics.get("kept"):
        found.append({"step": kept["step"], "what": "handed on"})
    return sorted((mark for mark in found if mark["step"] <= last_step), key=lambda mark: mark["step"])


def _line(name: str, run: RunRecord, rows: list[dict], get: Getter) -> dict[str, Any]:
    points = [(row["step"], value, row) for row in rows if (value := get(row)) is not None]
    line: dict[str, Any] = {"name": name, "run": run.name}
    size = -(-len(points) // MOST_POINTS) if points else 1
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    line["x"] = [chunk[-1][0] for chunk in chunks]
    line["y"] = [short(sum(value for _, value, _ in chunk) / len(chunk)) for chunk in chunks]
    if name == "pass@1":
        line["low"] = [short(chunk[-1][2]["low"]) for chunk in chunks]
        line["high"] = [short(chunk[-1][2]["high"]) for chunk in chunks]
    return line


def _key(name: str) -> Getter:
    return lambda row: row.get(name)


def _reward(name: str) -> Getter:
    return lambda row: row["rewards"].get(name)
