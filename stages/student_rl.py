"""The comparison with distillation: RL on a student's base, with the tokens that distilling it took.

    make student-rl PROFILE=pocket

The paper's Qwen-32B-Zero. Tokens are prompts and completions: those of every rollout here, those of every epoch there.
`budget` gives it other limits: tokens, completion tokens alone, or seconds (`equal`: as many as distilling took).
"""

from pipeline.config.policy import Budget
from pipeline.core.errors import RunError
from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import train_by_rl


def run(ctx: StageContext) -> StageResult:
    distilled, student, given = ctx.learns_from.manifest, ctx.config.student, ctx.config.budget
    limits = given.model_dump()
    if given.is_open:
        limits["tokens"] = distilled.tokens[student]
    if given.seconds == "equal":
        limits["seconds"] = distilled.metrics[student].get("seconds")
        if not limits["seconds"]:
            raise RunError(
                f"stages.{ctx.stage_id}.budget.seconds is equal, but how long distilling {student} took was not noted "
                f"by the version that did it. Give a number, or move {ctx.learns_from.folder} away and distil again."
            )
    result = train_by_rl(ctx, Budget(**limits))
    if given.is_open and result.tokens["seen"] < limits["tokens"]:
        ctx.log.warning(
            "%s stopped at grpo.max_steps %d with %d of the %d tokens that distillation took",
            ctx.stage_id, ctx.config.grpo.max_steps, result.tokens["seen"], limits["tokens"],
        )  # fmt: skip
    return result
