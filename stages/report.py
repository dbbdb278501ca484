"""One self-contained HTML file about the run.

    make report PROFILE=pocket

Before every stage is done, the same command shows what there is, in `report-preview.html` in the run folder.
"""

from pipeline.context import StageContext, StageResult
from pipeline.reporting import RunRecord, write_report


def run(ctx: StageContext) -> StageResult:
    write_report(RunRecord.of_stage(ctx), ctx.folder / "report.html")
    return StageResult(outputs=["report.html"])
