"""Dev2: GRPO from Dev1, rule rewards and language consistency added directly.

make reasoning-rl PROFILE=pocket
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import climb


def run(ctx: StageContext) -> StageResult:
    return climb(ctx)
