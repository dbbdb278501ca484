"""R1: GRPO from Dev3 on reasoning rows (rules) and general rows (reward models, which count only late in the run).

    make general-rl PROFILE=pocket

In the profile a reward names its scorer as `model: stage:helpful` or `model: stage:harmless`.
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import train_by_rl


def run(ctx: StageContext) -> StageResult:
    return train_by_rl(ctx)
