"""R1-Zero: GRPO from the base model with rule rewards and nothing else.

make r1-zero PROFILE=pocket
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import train_by_rl


def run(ctx: StageContext) -> StageResult:
    return train_by_rl(ctx)
