"""Run folders with the files that the stages write, made from invented figures and answers.

Samples, figures and manifests are made with the pipeline's own `Sample`, `summarise` and `Manifest`, so that the files
keep the shape that the stages give them.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.core.files import hash_json, write_json_lines
from pipeline.core.manifest import Manifest, hash_stage
from pipeline.ladder import LADDER
from pipeline.runs.folder import RunFolder
from pipeline.runs.identity import resolved_config
from pipeline.runs.runner import input_identities, stage_states
from pipeline.steps.evaluation import Sample, summarise

CONFIGS = Path(__file__).parents[3] / "configs"
EVIL = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'></script>"
"""What a model may write: it must stay text wherever the page shows it."""
TEACHER = ("base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1")
STUDENTS = ("qwen base", "llama base", "qwen distilled", "llama distilled", "qwen RL")
SKILL = dict(zip((*TEACHER, *STUDENTS), (0.1, 0.7, 0.4, 0.7, 0.75, 0.8, 0.05, 0.05, 0.6, 0.6, 0.2), strict=True))


@dataclass(frozen=True)
class World:
    """How large the run is."""

    questions: int = 8
    samples: int = 4
    steps: int = 30
    rollouts_every: int = 10
    group: int = 16
    """Completions of a step that are written."""


def smoke_profile(*overrides: str, seed: int | None = None) -> Profile:
    """The committed profile `smoke`; the working directory must hold `configs/`."""
    return load_profile("smoke", overrides, seed).profile


def make_run(name: str, profile: Profile, upto: str = "evaluate", world: World | None = None) -> RunFolder:
    """`runs/<name>/` under the working directory, with every stage finished up to `upto`."""
    run, world = RunFolder(name, profile.name), world or World()
    run.claim()
    for stage in LADDER:
        folder = run.path / "making" / stage.id
        folder.mkdir(parents=True)
        rng = random.Random(f"{profile.seed} {stage.id}")
        outputs, metrics, tokens = WRITERS[stage.id](folder, profile, world, rng)
        finish(run, profile, stage, folder, outputs, metrics, tokens)
        if stage.id == upto:
            break
    (run.path / "making").rmdir()
    return run


def finish(run: RunFolder, profile: Profile, stage, folder: Path, outputs, metrics, tokens) -> None:
    config = resolved_config(profile, stage)
    states = stage_states(profile, run)
    made, records = hash_stage(folder, outputs)
    Manifest(
        stage=stage.id,
        profile=profile.name,
        config=config,
        config_hash=hash_json(config),
        inputs=input_identities(stage, states),
        outputs=made,
        records=records,
        code={"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        packages={"torch": "2.13.0", "trl": "1.16.0"},
        seed=7,
        device="cpu",
        wall_seconds=83.4,
        peak_memory_bytes=3 * 2**30,
        tokens=tokens,
        metrics=metrics,
    ).write(folder)
    run.finish(stage.id, folder)


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")


def base_model(folder, profile, world, rng):
    checkpoint(folder / "checkpoint")
    for student in profile.stages.base_model.students:
        checkpoint(folder / "students" / student)
    return ["checkpoint", "students"], {}, {}


def fine_tuned(folder, profile, world, rng):
    checkpoint(folder / "checkpoint")
    return ["checkpoint"], {"rows": 40, "steps": 10, "loss": 1.5}, {"trained": 4612}


def rl(stage_id: str):
    def write(folder, profile, world, rng):
        checkpoint(folder / "checkpoint")
        write_steps(folder, profile, stage_id, world, rng)
        return ["checkpoint"], {"steps": world.steps}, {"sampled": 5000, "trained": 5000, "seen": 8000}

    return write


def write_steps(folder: Path, profile: Profile, stage_id: str, world: World, rng: random.Random) -> None:
    """`metrics.jsonl`, `rollouts/` and, where the profile asks for it, `heldout.jsonl`."""
    section = getattr(profile.stages, stage_id)
    uses = [spec.use for spec in section.rewards]
    names = [use if use not in uses[:i] else f"{use}_2" for i, use in enumerate(uses)]
    write_json_lines(folder / "metrics.jsonl", [step_record(step, names, rng) for step in range(1, world.steps + 1)])
    (folder / "rollouts").mkdir(exist_ok=True)
    for step in range(1, world.steps + 1, world.rollouts_every):
        rows = [rollout(i, names, rng) for i in range(world.group)]
        write_json_lines(folder / "rollouts" / f"step-{step:06d}.jsonl", rows)
    if section.heldout:
        points = []
        for step in range(0, world.steps + 1, world.rollouts_every):
            groups = [[sample(q, 0.1 + 0.6 * step / world.steps, rng) for _ in range(2)] for q in range(4)]
            points.append({"step": step, "set": section.heldout.set, **summarise(groups, [2])})
            (folder / "heldout").mkdir(exist_ok=True)
            write_json_lines(folder / "heldout" / f"step-{step:06d}.jsonl", sample_rows(groups, section.heldout.set))
        write_json_lines(folder / "heldout.jsonl", points)


def step_record(step: int, names: list[str], rng: random.Random) -> dict:
    rewards = {name: None if name == "reward_model_2" else rng.random() for name in names}
    return {
        "step": step,
        "loss": 0.01,
        "grad_norm": rng.random(),
        "reward": sum(value or 0 for value in rewards.values()),
        "reward_std": 0.4,
        "zero_spread": 0.25,
        "completion_tokens": 10.0 + step,
        "completion_tokens_max": 64.0,
        "truncated": 0.1,
        "rewards": rewards,
        "kl": 0.001 * step,
        "entropy": None if step == 3 else 1 / step,
        "clip_ratio/region_mean": 0.0,
        "seconds_rollout": 0.3,
        "seconds_scoring": 0.01,
        "seconds_sync": 0.02,
        "seconds_update": 0.2,
        "rollout_tokens_per_second": 12345.6,
        "update_tokens_per_second": 23456.7,
    }


def rollout(number: int, names: list[str], rng: random.Random) -> dict:
    right = rng.random() < 0.5
    text = answer_text(number, right, rng)
    return {
        "id": f"chain {number // 4}{EVIL}",
        "prompt": f"User: What is {number // 4}+1? {EVIL} Assistant:",
        "completion": text,
        "rewards": {name: {"accuracy": float(right), "format": 1.0}.get(name) for name in names},
        "advantage": 0.5,
        "tokens": len(text.split()),
        "finish_reason": "length" if rng.random() < 0.2 else "stop",
    }


def answer_text(number: int, right: bool, rng: random.Random) -> str:
    second_look = "wait, check again. " if rng.random() < 0.3 else ""
    evil = EVIL if rng.random() < 0.2 else ""
    return (
        f"<think>{number} and one. 等于多少 {second_look}{evil}</think><answer>{number + (1 if right else 2)}</answer>"
    )


def sample(question: int, skill: float, rng: random.Random, metric: str = "accuracy") -> Sample:
    right = rng.random() < skill
    text = answer_text(question, right, rng)
    verdict = "quality" if metric == "quality" else "correct" if right else rng.choice(["wrong", "wrong", "no_answer"])
    return Sample(
        question_id=f"chain {question}",
        score=float(right),
        verdict=verdict,
        vote=None if verdict in ("quality", "no_answer") else str(question + (1 if right else 2)),
        well_formed=rng.random() < 0.9,
        language_share=rng.choice([1.0, 1.0, 0.6, None]),
        tokens=len(text.split()),
        truncated=rng.random() < 0.1,
        text=text,
    )


def cold_start_data(folder, profile, world, rng, stage="cold_start_data", general=0):
    rows = [
        {"id": f"chain {i}", "question": f"What is {i}+1?", "response": answer_text(i, True, rng), "source": stage}
        for i in range(20)
    ]
    rows += [
        {"id": f"g {i}", "question": "Say hello.", "response": "Hello.", "source": "general"} for i in range(general)
    ]
    write_json_lines(folder / "rows.jsonl", rows)
    reasons = {"wrong": 12, "rewriting: mixed_language": 5, "format": 3}
    dropped = [
        {"question_id": f"chain {i}", "sample": i, "reason": reason, "text": f"{reason} {i} {EVIL}"}
        for reason, count in reasons.items()
        for i in range(count)
    ]
    write_json_lines(folder / "dropped.jsonl", dropped)
    metrics = {"questions": 10, "samples": 40, "dropped": reasons, "rows": 20}
    return ["rows.jsonl"], metrics | ({"general_rows": general} if general else {}), {"sampled": 900}


def rejection_sampling(folder, profile, world, rng):
    return cold_start_data(folder, profile, world, rng, "rejection_sampling", general=7)


def reward_model(folder, profile, world, rng):
    for name in profile.stages.reward_model.scorers:
        checkpoint(folder / name)
    figures = {name: {"pairs": 27, "dropped": 10, "accuracy": 0.83} for name in profile.stages.reward_model.scorers}
    return list(figures), figures, dict.fromkeys(figures, 1016)


def distill(folder, profile, world, rng):
    students = list(profile.stages.base_model.students)
    for student in students:
        checkpoint(folder / "students" / student / "checkpoint")
    metrics = {student: {"rows": 27, "steps": 10, "loss": 2.5} for student in students}
    return [f"students/{student}/checkpoint" for student in students], metrics, dict.fromkeys(students, 4600)


def evaluate(folder, profile, world, rng):
    section, results = profile.stages.evaluate, {}
    (folder / "samples").mkdir()
    for rung, skill in SKILL.items():
        results[rung] = {}
        for name, settings in section.sets.items():
            groups = [
                [sample(q, skill, rng, settings.metric) for _ in range(world.samples)] for q in range(world.questions)
            ]
            results[rung][name] = summarise(groups, [world.samples])
            write_json_lines(folder / "samples" / f"{rung}-{name}.jsonl", sample_rows(groups, name))
    settings = {"sampling": section.sampling.model_dump(), "seed": section.seed}
    (folder / "results.json").write_text(json.dumps({"settings": settings, "results": results}))
    return ["results.json", "samples"], results, {"sampled": 16541}


def sample_rows(groups: list[list[Sample]], set_name: str) -> list[dict]:
    return [
        {"question": f"What is {q}+1? ({set_name}) {EVIL}", "answer": str(q + 1), "language": "en", **asdict(s)}
        for q, group in enumerate(groups)
        for s in group
    ]


WRITERS = {
    "base_model": base_model,
    "r1_zero": rl("r1_zero"),
    "cold_start_data": cold_start_data,
    "cold_start_sft": fine_tuned,
    "reasoning_rl": rl("reasoning_rl"),
    "rejection_sampling": rejection_sampling,
    "sft": fine_tuned,
    "reward_model": reward_model,
    "general_rl": rl("general_rl"),
    "distill": distill,
    "student_rl": rl("student_rl"),
    "evaluate": evaluate,
}
