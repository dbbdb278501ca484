"""Cold-start data: several R1-Zero samples a question; correct and readable ones kept, then rewritten.

    make cold-start-data PROFILE=pocket

Gives `rows.jsonl`, and in `dropped.jsonl` each other sample with the reason.
"""

from data_recipes.written.rewriting import make_rewriter
from pipeline.core.errors import RunError
from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.sampled_rows import REWRITTEN, collect_rows, write_rows
from pipeline.steps.sampling import SHARDS


def run(ctx: StageContext) -> StageResult:
    rewrite = make_rewriter(ctx.config.rewriter)
    rows, dropped, funnel = collect_rows(ctx, rewrite)
    write_rows(ctx, rows, dropped, funnel)
    if not rows:
        raise RunError(
            "No sample of R1-Zero was correct and readable, so there is no cold-start data. Train r1_zero for longer, "
            "sample more (samples_per_question), or loosen stages.cold_start_data.filters."
        )
    return StageResult(
        outputs=["rows.jsonl"],
        metrics=funnel.as_metrics(),
        tokens={"sampled": funnel.sampled_tokens},
        scratch=[SHARDS, REWRITTEN],
    )
