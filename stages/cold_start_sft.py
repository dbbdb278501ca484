"""Dev1: the base model, fine-tuned on the cold-start rows.

    make cold-start-sft PROFILE=pocket

The readable start that reinforcement learning then goes on from (DeepSeek-R1, section 2.3.1 of v1).
"""

from pipeline.context import StageContext, StageResult
from pipeline.sft_stage import fine_tune


def run(ctx: StageContext) -> StageResult:
    rows = ctx.inputs["cold_start_data"].folder / "rows.jsonl"
    result = fine_tune(ctx, ctx.inputs["base_model"].checkpoint, rows, ctx.config.sft, ctx.folder, "fine-tuning")
    return StageResult(
        outputs=["checkpoint"],
        metrics={"rows": result.rows, "steps": result.steps, "loss": result.final_loss},
        tokens={"trained": result.tokens},
        scratch=["trainer"],
    )
