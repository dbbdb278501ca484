"""The comparison with distillation: RL on a student's base, with the tokens that distilling it took.

    make student-rl PROFILE=pocket

The paper's Qwen-32B-Zero. Tokens are prompts and completions: those of every rollout here, those of every epoch there.
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import climb


def run(ctx: StageContext) -> StageResult:
    student = ctx.config.student
    budget = ctx.inputs["distill"].manifest.tokens[student]
    start = ctx.inputs["base_model"].folder / "students" / student
    result = climb(ctx, start=start, template="r1_zero", token_budget=budget)
    if result.tokens["seen"] < budget:
        ctx.log.warning(
            "student_rl stopped at grpo.max_steps %d with %d of the %d tokens that distillation took",
            ctx.config.grpo.max_steps, result.tokens["seen"], budget,
        )  # fmt: skip
    return result
