"""The comparison with distillation: RL on a student's base, with the tokens that distilling it took.

    make student-rl PROFILE=pocket

The paper's Qwen-32B-Zero. Tokens are prompts and completions: those of every rollout here, those of every epoch there.
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import train_by_rl


def run(ctx: StageContext) -> StageResult:
    budget = ctx.learns_from.manifest.tokens[ctx.config.student]
    result = train_by_rl(ctx, token_budget=budget)
    if result.tokens["seen"] < budget:
        ctx.log.warning(
            "%s stopped at grpo.max_steps %d with %d of the %d tokens that distillation took",
            ctx.stage_id, ctx.config.grpo.max_steps, result.tokens["seen"], budget,
        )  # fmt: skip
    return result
