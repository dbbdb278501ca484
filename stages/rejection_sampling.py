"""The 800k: correct and readable samples of the reasoning checkpoint, and general rows with reference answers.

    make rejection-sampling PROFILE=pocket

Gives `rows.jsonl` (both kinds, shuffled), and in `dropped.jsonl` each other sample with the reason.
"""

from pipeline.core.errors import ConfigError, RunError
from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.questions import training_questions
from pipeline.steps.sampled_rows import collect_rows, write_rows
from pipeline.steps.sampling import SHARDS


def run(ctx: StageContext) -> StageResult:
    rows, dropped, funnel = collect_rows(ctx)
    if not rows:
        raise RunError(
            "No sample of the reasoning checkpoint was correct and readable. Train reasoning_rl for longer, sample "
            "more (samples_per_question), or loosen stages.rejection_sampling.filters; reasons are in dropped.jsonl."
        )
    general = general_rows(ctx)
    everything = rows + general
    ctx.rng("row order").shuffle(everything)
    write_rows(ctx, everything, dropped, funnel)
    ctx.log.info("%d reasoning rows and %d general rows", len(rows), len(general))
    return StageResult(
        outputs=["rows.jsonl"],
        metrics={**funnel.as_metrics(), "general_rows": len(general)},
        tokens={"sampled": funnel.sampled_tokens},
        scratch=[SHARDS],
    )


def general_rows(ctx: StageContext) -> list[dict]:
    """Rows of the general group, each with its reference response."""
    if ctx.config.general_rows == 0:
        return []
    questions = training_questions(ctx, {ctx.config.general_group: ctx.config.general_rows})
    for question in questions:
        if not question.response:
            raise ConfigError(
                f"The general question '{question.id}' has no `response` to learn from. Give every row of the group "
                f"'{ctx.config.general_group}' a response, or set stages.rejection_sampling.general_rows to 0."
            )
    return [{**question.columns(), "source": ctx.config.general_group} for question in questions]
