"""The keys of a profile that a budget may change, and their values anywhere between least and most."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.config.profile import Profile
from pipeline.config.stages import RejectionSamplingStage, RewardModelStage, RLStage, SampledData, StudentRLStage
from pipeline.core.errors import ConfigError
from pipeline.ladder import BASE, EVALUATE, LADDER, REPORT, STAGES

CONCURRENCY = "engine.max_sequences"
"""The one bounded key that only measuring decides: it changes speed, and no result."""
MOVABLE = tuple(stage.id for stage in LADDER if stage not in (BASE, EVALUATE, REPORT))
"""Stages that may be made smaller. Bases, evaluation and report stay the same, so that figures can be compared."""
LEAST_STEPS, LEAST_GROUP, LEAST_QUESTIONS, LEAST_SEQUENCES = 1 / 6, 1 / 2, 1 / 4, 1 / 8
"""Of the profile's value, where the profile has no bounds of its own."""
SMALLEST_GROUP = 4
AFTER_LAST_REWARD = 1.5
"""The least steps of a stage over the step from which its last reward counts."""

Bounds = Mapping[str, tuple[int, int]]


def bounds_of(profile: Profile) -> dict[str, tuple[int, int]]:
    """Key -> (least, most): the profile's own bounds, else those that follow from its values.

    Raises ConfigError for a key that the profile does not have, or that other stages depend on.
    """
    own = profile.budget.bounds
    if not own:
        return default_bounds(profile)
    for key in own:
        stage = stage_of(key)
        if key != CONCURRENCY and stage not in MOVABLE:
            raise ConfigError(
                f"budget.bounds names '{key}'. Expected {CONCURRENCY}, or a key below stages.NAME of one of "
                f"{', '.join(MOVABLE)}: what other stages are compared by stays the same."
            )
        value = value_at(profile, key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(
                f"budget.bounds names '{key}', which is {value!r} in this profile. Expected a key whose value is a "
                "whole number; set it in the profile, or take the bound out."
            )
    return {key: (least, most) for key, (least, most) in own.items()}


def default_bounds(profile: Profile) -> dict[str, tuple[int, int]]:
    """Steps down to a sixth (but past the steps that the stage's settings name), groups to half, questions to a
    quarter. Nothing goes above the profile's value."""
    sequences = profile.engine.max_sequences
    found: dict[str, tuple[int, int]] = {CONCURRENCY: (max(1, round(sequences * LEAST_SEQUENCES)), sequences)}
    for name, section in profile.stages.of(RLStage).items():
        if isinstance(section, StudentRLStage):  # the tokens of distilling end it
            continue
        settings, steps = section.grpo, section.grpo.max_steps
        counts_from = max((spec.schedule.from_step for spec in section.rewards if spec.schedule), default=0)
        best_from = section.heldout.best_from if section.heldout and section.heldout.keep_best else 0
        least = max(math.ceil(steps * LEAST_STEPS), settings.rollout_steps, best_from,
                    math.ceil(counts_from * AFTER_LAST_REWARD))  # fmt: skip
        found[f"stages.{name}.grpo.max_steps"] = (min(least, steps), steps)
        group = settings.group_size
        found[f"stages.{name}.grpo.group_size"] = (min(group, max(SMALLEST_GROUP, round(group * LEAST_GROUP))), group)
    for name, section in profile.stages.of(SampledData).items():
        counts = {f"questions.{group}": count for group, count in section.questions.items()}
        counts["max_rows"] = section.max_rows
        if isinstance(section, RejectionSamplingStage):
            counts["general_rows"] = section.general_rows
        found |= {f"stages.{name}.{key}": _part(count) for key, count in counts.items() if count}
    for name, section in profile.stages.of(RewardModelStage).items():
        for scorer, settings in section.scorers.items():
            found[f"stages.{name}.scorers.{scorer}.prompts"] = _part(settings.prompts)
    return found


def _part(count: int) -> tuple[int, int]:
    return max(1, round(count * LEAST_QUESTIONS)), count


def stage_of(key: str) -> str | None:
    """The id of the stage that a key belongs to, None for a key outside the stages."""
    first, _, rest = key.partition(".")
    stage = rest.partition(".")[0]
    return stage if first == "stages" and stage in STAGES else None


def value_at(profile: Profile, key: str) -> Any:
    """The value that a profile has at a dotted key, None where it has none."""
    found: Any = profile
    for part in key.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, list | tuple):
            found = found[int(part)] if part.isdigit() and int(part) < len(found) else None
        else:
            found = getattr(found, part, None)
    return found


def with_values(section: Any, values: Mapping[str, int]) -> Any:
    """A copy of a profile, or of a part of one, with the values at their dotted keys. They are not checked."""
    inside: dict[str, dict[str, int]] = {}
    for key, value in values.items():
        first, _, rest = key.partition(".")
        inside.setdefault(first, {})[rest] = value
    if isinstance(section, list):
        return [
            with_values(item, inside[str(place)]) if str(place) in inside else item
            for place, item in enumerate(section)
        ]
    old = section if isinstance(section, Mapping) else {key: getattr(section, key) for key in inside}
    new = {key: found[""] if "" in found else with_values(old[key], found) for key, found in inside.items()}
    return {**section, **new} if isinstance(section, Mapping) else section.model_copy(update=new)


def values_at(bounds: Bounds, share: float) -> dict[str, int]:
    """Every bounded value at `share` of the way from least (0) to most (1)."""
    return {key: round(least + share * (most - least)) for key, (least, most) in bounds.items() if key != CONCURRENCY}


def overrides(values: Mapping[str, int]) -> list[str]:
    """As SET takes them."""
    return [f"{key}={value}" for key, value in values.items()]
