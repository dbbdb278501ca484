"""Dev3: the base model (not the RL checkpoint), fine-tuned on rejection-sampled and general rows.

make sft PROFILE=pocket
"""

from pipeline.context import StageContext, StageResult
from pipeline.sft_stage import fine_tune


def run(ctx: StageContext) -> StageResult:
    rows = ctx.inputs["rejection_sampling"].folder / "rows.jsonl"
    result = fine_tune(ctx, ctx.inputs["base_model"].checkpoint, rows, ctx.config.sft, ctx.folder, "fine-tuning")
    return StageResult(
        outputs=["checkpoint"],
        metrics={"rows": result.rows, "steps": result.steps, "loss": result.final_loss},
        tokens={"trained": result.tokens},
        scratch=["trainer"],
    )
