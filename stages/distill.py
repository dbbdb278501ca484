"""R1-Distill: each student base, fine-tuned on the rows that the teacher's rejection sampling gave. No RL.

    make distill PROFILE=pocket

Gives `students/<name>/checkpoint/`.
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.sft import fine_tune


def run(ctx: StageContext) -> StageResult:
    students = ctx.folder / "students"
    students.mkdir(exist_ok=True)
    metrics, tokens = {}, {}
    for name in ctx.profile.stages.base_model.students:
        rate = ctx.config.learning_rates.get(name, ctx.config.sft.learning_rate)
        settings = ctx.config.sft.model_copy(update={"learning_rate": rate})
        result = fine_tune(
            ctx, ctx.start(name), ctx.learns_from.rows, settings, students / name, f"distilling into {name}"
        )
        metrics[name] = {"rows": result.rows, "steps": result.steps, "loss": result.final_loss}
        tokens[name] = result.tokens
    return StageResult(
        outputs=[ctx.stage.checkpoint(name) for name in metrics],
        metrics=metrics,
        tokens=tokens,
        scratch=[f"students/{name}/trainer" for name in metrics],
    )
