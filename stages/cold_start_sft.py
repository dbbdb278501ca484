"""Dev1: the base model, fine-tuned on the cold-start rows.

    make cold-start-sft PROFILE=pocket

The readable start that reinforcement learning then goes on from (DeepSeek-R1, section 2.3.1 of v1).
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.sft import fine_tune_teacher


def run(ctx: StageContext) -> StageResult:
    return fine_tune_teacher(ctx)
