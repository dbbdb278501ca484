"""Dev3: the base model (not the RL checkpoint), fine-tuned on rejection-sampled and general rows.

make sft PROFILE=pocket
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.sft import fine_tune_teacher


def run(ctx: StageContext) -> StageResult:
    return fine_tune_teacher(ctx)
