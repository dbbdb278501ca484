"""The text of a new profile: what differs from the shipped profile that it extends, with comments."""

import importlib.util
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_recipes.sources import catalogue
from pipeline.config.data import Heldout
from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.config.stages import DistillStage, RLStage, StudentRLStage
from pipeline.core.strict import Strict, lay_over
from pipeline.models.shapes import parameters_of, shape_of
from pipeline.new.hardware import Hardware
from pipeline.new.models import tokenizer_settings
from pipeline.new.questions import held_out, rows_in
from rewards import judges_answers

GROUP = MEASURED = "reasoning"
"""The group of questions that RL asks, and the set that everything is measured on: the shipped profiles' names."""
OWN_WEIGHT = 0.2
SMALL_CONTEXT = 256
"""Contexts up to this have no room for the paper's prompt beside an answer."""


@dataclass(frozen=True)
class Wishes:
    """What somebody wants to train."""

    name: str
    base: str
    students: dict[str, str]
    sources: list[dict[str, Any]]
    exam: list[dict[str, Any]]
    reward: str
    hardware: Hardware
    like: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Further keys of the profile, such as `lora`, with dots: what makes it fit the hardware."""


def nearest_profile(base: str, hardware: Hardware) -> str:
    """The shipped profile whose sizes suit the model on the hardware."""
    parameters = parameters_of(base) or (1e9 if hardware.gpus else 1e8)
    if not hardware.gpus:
        return "pocket" if parameters < 2e7 else "smollm2-135m"
    if parameters < 1e9:
        return "qwen2.5-0.5b"
    if parameters < 4e9:
        return "qwen2.5-1.5b" if hardware.gib >= 48 else "qwen2.5-1.5b-24gb"
    return "qwen2.5-7b"


def profile_text(wishes: Wishes) -> str:
    """The YAML of the profile that PROFILE=NAME finds in configs/."""
    parent = load_profile(wishes.like).profile
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["flow"] = _flow
    models = {"teacher": wishes.base, **wishes.students}
    section = parent.stages.base_model
    wanted = {role: deepcopy(settings) for role, source in models.items() if (settings := tokenizer_settings(source))}
    measured, exam_note = _measured(wishes, parent)
    sets = {name: chosen for name, chosen in _dumped(parent.stages.evaluate.sets).items() if chosen.get("metric")}
    return environment.get_template("profile.yaml.jinja").render(
        name=wishes.name,
        description=_description(wishes),
        like=wishes.like,
        hardware=wishes.hardware,
        processes=f" PROCESSES={wishes.hardware.gpus}" if wishes.hardware.gpus > 1 else "",
        top=[(comment, key, value) for key, (comment, value) in _top(wishes, parent).items()],
        sources=wishes.sources,
        base=wishes.base,
        students=_over(section.students, wishes.students) | wishes.students,
        tokenizers=_over(_dumped(section.tokenizers), wanted),
        contexts=_over(section.contexts, {}),
        rl=[stage for stage in _rl_stages(wishes, parent) if any(stage[key] for key in stage if key != "name")],
        others=_other_stages(wishes, parent),
        own_reward=wishes.reward or None,
        sets={MEASURED: measured, **{key: None for key in _others(parent, sets)}},
        exam_note=exam_note,
    )


def _description(wishes: Wishes) -> str:
    data = ", ".join(_short(source["use"]) for source in wishes.sources)
    return f"{_short(wishes.base)} trained on {data}, for {wishes.hardware}"


def _others(parent: Profile, kept: dict[str, Any]) -> list[str]:
    return [name for name in parent.stages.evaluate.sets if name != MEASURED and name not in kept]


def _top(wishes: Wishes, parent: Profile) -> dict[str, tuple[str, Any]]:
    """Key -> (comment, value) of the keys outside `stages`."""
    found: dict[str, tuple[str, Any]] = {}
    template = parent.templates.r1_zero
    if template and parent.engine.max_model_len > SMALL_CONTEXT and wishes.base != parent.stages.base_model.teacher:
        found["templates"] = ("The prompt of the base and of R1-Zero: null is the paper's.", {"r1_zero": None})
    engine: dict[str, Any] = {}
    if importlib.util.find_spec("vllm") is None and parent.engine.kind == "vllm":
        engine["kind"] = "transformers"
    shape = shape_of(wishes.base)
    if shape and shape.context < parent.engine.max_model_len:
        engine["max_model_len"] = shape.context
    if engine:
        found["engine"] = ("The engine that writes completions: vllm where it is installed.", engine)
    for key, value in wishes.changes.items():
        if "." not in key:
            found[key] = ("What makes it fit: adapters in every stage, in place of training all weights.", value)
    return found


def _measured(wishes: Wishes, parent: Profile) -> tuple[dict[str, Any], str]:
    source, questions, note = held_out(wishes.sources, wishes.exam)
    main = next(chosen for chosen in parent.stages.evaluate.sets.values() if chosen.metric == "accuracy")
    samples = max([main.samples, *parent.stages.evaluate.consensus])
    return {"source": source, "questions": questions, "samples": samples}, note


def _rl_stages(wishes: Wishes, parent: Profile) -> list[dict[str, Any]]:
    return [_rl_stage(wishes, name, stage) for name, stage in parent.stages.of(RLStage).items()]


def _rl_stage(wishes: Wishes, name: str, stage: RLStage) -> dict[str, Any]:
    """How an RL stage differs from the parent's: its rewards, a smaller rollout, another held-out set."""
    found: dict[str, Any] = {"name": name, "student": None, "grpo": {}, "rewards": [], "heldout": None}
    if isinstance(stage, StudentRLStage):
        found["student"] = next(iter(wishes.students))
    rewards = [_own_domains(spec.model_dump(mode="json", exclude_unset=True)) for spec in stage.rewards]
    if wishes.reward:
        limited = {"domains": [GROUP]} if any("domains" in reward for reward in rewards) else {}
        rewards.append({"use": wishes.reward, "weight": OWN_WEIGHT, **limited})
    if rewards != [spec.model_dump(mode="json", exclude_unset=True) for spec in stage.rewards]:
        found["rewards"] = rewards
    prefix = f"stages.{name}.grpo."
    found["grpo"] = {key.removeprefix(prefix): value for key, value in wishes.changes.items() if key.startswith(prefix)}
    found["grpo"] |= _rollout(wishes, stage)
    if stage.heldout:
        found["heldout"] = {"set": MEASURED} if stage.heldout.set != MEASURED else {}
        if stage.heldout.keep_best and not _can_choose(wishes, stage.heldout):
            found["heldout"]["keep_best"] = False
    return found


def _can_choose(wishes: Wishes, heldout: Heldout) -> bool:
    """Whether enough questions are left to choose a checkpoint by: at most a tenth of a file is held out for it."""
    source, questions, _ = held_out(wishes.sources, wishes.exam)
    if not catalogue.is_finite(source["use"]):
        return True
    rows = rows_in([source])
    return None not in (rows, questions) and rows >= 10 * (questions + heldout.questions)


def _other_stages(wishes: Wishes, parent: Profile) -> dict[str, dict[str, Any]]:
    """How the other stages differ from the parent's: the students' learning rates, and smaller passes."""
    found: dict[str, dict[str, Any]] = {}
    for name, stage in parent.stages.of(DistillStage).items():
        if stage.learning_rates:
            found[name] = {"learning_rates": _over(stage.learning_rates, _rates(stage, wishes))}
        if gone := stage.compare.keys() - wishes.students.keys():
            found[name] = {**found.get(name, {}), "compare": dict.fromkeys(sorted(gone))}
    rl = parent.stages.of(RLStage)
    for key, value in wishes.changes.items():
        _, _, rest = key.partition("stages.")
        name, _, inside = rest.partition(".")
        if name and name not in rl:
            for part in reversed(inside.split(".")):
                value = {part: value}
            found[name] = lay_over(found.get(name, {}), value)
    return found


def _own_domains(reward: dict[str, Any]) -> dict[str, Any]:
    """The reward, for the domain of a user's questions where it compares their answers."""
    return {**reward, "domains": [GROUP]} if reward.get("domains") and judges_answers(reward["use"]) else reward


def _rollout(wishes: Wishes, stage: RLStage) -> dict[str, Any]:
    """A smaller rollout, where a user's files hold fewer questions than the parent's asks at once."""
    rows = rows_in(wishes.sources)
    if rows is None:
        return {}
    _, questions, _ = held_out(wishes.sources, wishes.exam)
    left = rows if wishes.exam else rows - (questions or 0)
    if left >= stage.grpo.prompts_per_rollout:
        return {}
    prompts = min(stage.grpo.prompts_per_step, max(1, 2 ** ((max(left, 1)).bit_length() - 1)))
    return {"rollout_prompts": None, "prompts_per_step": prompts}


def _rates(stage: DistillStage, wishes: Wishes) -> dict[str, float]:
    rate = next(iter(stage.learning_rates.values()))
    return {name: stage.learning_rates.get(name, rate) for name in wishes.students}


def _dumped(sections: dict[str, Strict]) -> dict[str, dict[str, Any]]:
    return {name: section.model_dump(mode="json", exclude_unset=True) for name, section in sections.items()}


def _over(below: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Keys to set on top of `below` so that the result is `wanted`; null removes a key."""
    changes: dict[str, Any] = dict.fromkeys(key for key in below if key not in wanted)
    for key, value in wanted.items():
        before = below.get(key)
        changes[key] = _over(before, value) if isinstance(value, dict) and isinstance(before, dict) else value
    return {key: value for key, value in changes.items() if value is None or below.get(key) != wanted[key]}


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _short(source: str) -> str:
    return source.rpartition(":")[2].rstrip("/").rpartition("/")[2] or source
