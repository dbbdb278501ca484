"""Rewards that can be trusted, and plugged in.

A reward has TRL's signature, `f(prompts, completions, completion_ids, **columns) -> list[float | None]`, sync or async;
None means that it does not apply to a row. `load` finds one by name, `RewardSet` builds those of a profile,
`judge_answers` gives the verdicts that evaluation and data filters need. How to write one: `docs/custom-rewards.md`.

Importing this package is cheap: computer algebra, reasoning-gym and torch are imported by the processes that use them.
"""

from pipeline.config.rewards import RewardSpec, Schedule
from rewards.builtin.language import language_share
from rewards.builtin.reward_model import reward_model_text
from rewards.contract import Closes, GivesVerdicts, Prefetches, Reward, RewardError
from rewards.grading.answers import final_answer
from rewards.grading.judging import judge_answer, judge_answers, prefetch
from rewards.grading.verdict import Verdict
from rewards.grading.voting import answer_key, votes
from rewards.own.check import check
from rewards.registry import judges_answers, load, names
from rewards.response import Response, split_response
from rewards.reward_set import RewardContext, RewardSet

__all__ = [
    "Closes",
    "GivesVerdicts",
    "Prefetches",
    "Response",
    "Reward",
    "RewardContext",
    "RewardError",
    "RewardSet",
    "RewardSpec",
    "Schedule",
    "Verdict",
    "answer_key",
    "check",
    "final_answer",
    "judge_answer",
    "judge_answers",
    "judges_answers",
    "language_share",
    "load",
    "names",
    "prefetch",
    "reward_model_text",
    "split_response",
    "votes",
]
