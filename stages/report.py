"""One self-contained HTML file about the run.

    make report PROFILE=pocket
"""

from pipeline.context import StageContext, StageResult
from pipeline.reporting import write_report


def run(ctx: StageContext) -> StageResult:
    write_report(ctx, ctx.folder / "report.html")
    return StageResult(outputs=["report.html"])
