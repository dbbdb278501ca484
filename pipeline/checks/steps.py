"""What a profile sets for optimizer steps that its stages never reach."""

from collections.abc import Iterator

from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage


def step_notes(profile: Profile) -> Iterator[str]:
    """A warning for each key of an RL stage that counts steps beyond the stage's end, or up to it."""
    for stage, section in profile.stages.policies.items():
        for key, what in _beyond(section):
            yield f"warning: stages.{stage}.{key}, but the stage ends after {section.grpo.max_steps} steps: {what}."


def _beyond(section: RLStage) -> Iterator[tuple[str, str]]:
    """(key and value, what follows)."""
    grpo, end = section.grpo, section.grpo.max_steps
    if grpo.warmup_steps >= end:
        yield f"grpo.warmup_steps is {grpo.warmup_steps}", "it never trains at its learning rate"
    if "max_completion_schedule" in grpo.model_fields_set:
        for change in grpo.max_completion_schedule:
            if change.from_step >= end:
                yield (
                    f"grpo.max_completion_schedule changes at step {change.from_step}",
                    f"completions are never {change.tokens} tokens long",
                )
    if section.heldout and section.heldout.every > end:
        yield f"heldout.every is {section.heldout.every}", "its curve has only the start"
    for place, reward in enumerate(section.rewards):
        schedule, key = reward.schedule, f"rewards.{place}.schedule of {reward.use}"
        if schedule is None:
            continue
        if schedule.from_step >= end:
            yield f"{key} starts at step {schedule.from_step}", "the reward never counts"
        elif schedule.from_step + schedule.ramp_steps >= end:
            risen = schedule.from_step + schedule.ramp_steps
            yield f"{key} has risen at step {risen}", "the reward never counts in full"
