"""Dev2: GRPO from Dev1, rule rewards and language consistency added directly.

make reasoning-rl PROFILE=pocket
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import train_by_rl


def run(ctx: StageContext) -> StageResult:
    return train_by_rl(ctx)
