"""Whether the rewards of an RL stage have questions to score: before the stage trains, while it does, and after it."""

from collections.abc import Sequence

from data_recipes.question import Question
from pipeline.core.errors import ConfigError
from pipeline.steps.difficulty import can_be_judged
from rewards import RewardSpec, judges_answers


def check_rewards_apply(stage_id: str, rewards: Sequence[RewardSpec], questions: Sequence[Question]) -> None:
    """Raises ConfigError for a reward that has nothing to say about any of `questions`.

    That is one whose `domains` none of them has, and one that judges answers where none of them has an answer to
    compare with: training would go on, on the other rewards alone.
    """
    for spec in rewards:
        rows = questions if spec.domains is None else [row for row in questions if row.domain in spec.domains]
        if not rows:
            there = sorted({row.domain for row in questions})
            raise ConfigError(
                f"stages.{stage_id}.rewards: {spec.use} is limited to domains {', '.join(spec.domains)}, and no "
                f"question of the stage has one of these; theirs are {', '.join(there)}. A question's domain is that "
                "of its source (`domain`), its own column `domain`, or the name of its group. Name one of them in the "
                "reward's `domains`, set the source's, or take the reward out."
            )
        if judges_answers(spec.use) and not any(map(can_be_judged, rows)):
            raise ConfigError(
                f"stages.{stage_id}.rewards: {spec.use} compares answers, and none of the {len(rows)} questions that "
                f"it applies to has one to compare with (first: '{rows[0].id}', verifier '{rows[0].verifier}'). Name "
                "the column of the answers in the source's args (columns: {question: …, answer: …}), or take the "
                "reward out."
            )
