"""What a profile trains reward models for."""

from collections.abc import Iterator
from typing import Any

from pipeline.config.profile import Profile
from pipeline.config.stages import RewardModelStage
from pipeline.ladder import STAGES, of_kind


def scorer_notes(profile: Profile) -> Iterator[str]:
    """A warning for each scorer that is trained and that no reward takes its scores from."""
    for stage, section in profile.stages.of(RewardModelStage).items():
        readers = [reader.id for reader in of_kind("rl") if reader.learns_from == stage]
        for scorer in section.scorers:
            if not _is_read(profile, stage, scorer):
                yield (
                    f"warning: stages.{stage}.scorers.{scorer} is trained, and no reward reads it. Add a reward with "
                    f"args: {{model: 'stage:{scorer}'}} to {', '.join(readers)}, or take it out of the scorers "
                    f"({scorer}: null, where a parent has it)."
                )


def _is_read(profile: Profile, stage: str, scorer: str) -> bool:
    """Whether a reward names it: by its stage, or by the folder that it is written to."""
    for key, section in profile.stages.policies.items():
        of_the_ladder = STAGES[key.partition(".")[0]].learns_from == stage
        for spec in section.rewards:
            if of_the_ladder and spec.scorer == scorer:
                return True
            if any(f"{stage}/{scorer}" in text for text in _texts(spec.args)):
                return True
    return False


def _texts(value: Any) -> Iterator[str]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        yield from _texts(item)
    if isinstance(value, str):
        yield value
