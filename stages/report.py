"""One self-contained HTML file about the run.

    make report PROFILE=pocket
"""

from pipeline.context import StageContext, StageResult
from pipeline.reporting import RunRecord, write_report


def run(ctx: StageContext) -> StageResult:
    write_report(RunRecord.of_stage(ctx), ctx.folder / "report.html")
    return StageResult(outputs=["report.html"])
