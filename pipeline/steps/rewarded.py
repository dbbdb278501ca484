"""Check that the rewards of an RL stage have questions to score: before, during and after training."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_recipes.question import Question
from pipeline.core.errors import ConfigError, RunError
from pipeline.steps.difficulty import can_be_judged
from rewards import RewardSet, RewardSpec, Verdict, judges_answers

UNJUDGED_STEPS = 20
"""Steps without a single judged answer after which training stops."""


def check_rewards_apply(stage_id: str, rewards: Sequence[RewardSpec], questions: Sequence[Question]) -> None:
    """Raises ConfigError for a reward that applies to none of `questions`.

    Either no question has one of its `domains`, or it compares answers and no question has one: training would continue
    with only the other rewards.
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


class JudgedWatch:
    """Stops training if a reward that judges answers can judge none: only the others would train, unnoticed.

    `step` and `end` raise RunError. What cannot be judged is the question's or the scorer's fault, never the model's.
    """

    def __init__(self, stage_id: str, rewards: RewardSet, before: Iterable[Mapping[str, Any]] = ()):
        """`before`: the records of a resumed run."""
        self._stage_id = stage_id
        self._specs = {reward.__name__: reward.spec for reward in rewards.functions if judges_answers(reward.spec.use)}
        self._steps: Counter[str] = Counter()
        self._verdicts: dict[str, Counter[str]] = {name: Counter() for name in self._specs}
        for record in before:
            self._count(record)

    def step(self, record: Mapping[str, Any]) -> None:
        """Read one line of `metrics.jsonl`."""
        self._count(record)
        for name, verdicts in self._verdicts.items():
            if self._steps[name] >= UNJUDGED_STEPS and verdicts.total() and not self._judged(name):
                raise RunError(self._fault(name))

    def end(self) -> None:
        """Check once more after the last step."""
        for name in self._specs:
            if self._steps[name] and not self._judged(name):
                raise RunError(self._fault(name))

    def _count(self, record: Mapping[str, Any]) -> None:
        for name, spec in self._specs.items():
            counts = spec.schedule is None or spec.schedule.factor(record["step"] - 1) is not None
            self._steps[name] += counts
            self._verdicts[name].update(record.get("verdicts", {}).get(name, {}))

    def _judged(self, name: str) -> int:
        return sum(count for verdict, count in self._verdicts[name].items() if Verdict(verdict).score is not None)

    def _fault(self, name: str) -> str:
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in self._verdicts[name].items() if count)
        return (
            f"{self._stage_id}: {name} judged no answer in {self._steps[name]} steps "
            f"({verdicts or 'no question that it applies to was drawn'}), so the other rewards trained alone. "
            "gold_unusable: the question's own answer, tests or numbers cannot be read; `make check` tries them. "
            "scorer_failed: the verifier crashed or ran past its deadline."
        )
