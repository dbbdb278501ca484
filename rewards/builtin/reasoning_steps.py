"""The reasoning-steps reward of open-r1."""

import re
from collections.abc import Sequence
from typing import Any

from rewards.contract import Reward, RewardError
from rewards.response import text_of

STEP = re.compile(r"Step [0-9]{1,9}:|^[ \t]{0,8}[0-9]{1,9}\.|\n[-*]|\b(?:First|Second|Next|Finally),", re.MULTILINE)


class ReasoningSteps(Reward):
    """Counts marks of step-by-step writing ("Step 1:", "2.", bullets, "First,"), up to `enough` (after open-r1).

    The score is the count over `enough`, at most 1. It rewards a look, not a proof: keep its weight small.
    """

    name = "reasoning_steps"

    def __init__(self, enough: int = 3):
        if enough < 1:
            raise RewardError(f"reward reasoning_steps: enough is {enough}; it must be 1 or more")
        self.enough = enough

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        return [min(1.0, len(STEP.findall(text_of(completion))) / self.enough) for completion in completions]
