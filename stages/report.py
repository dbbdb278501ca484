"""One self-contained HTML file about the run.

    make report PROFILE=pocket

Before every stage is done, the same command shows what there is, in `report-preview.html` in the run folder.
"""

from pipeline.report import RunRecord, write_report
from pipeline.steps.context import StageContext, StageResult


def run(ctx: StageContext) -> StageResult:
    write_report(RunRecord.of_stage(ctx), ctx.folder / "report.html")
    return StageResult(outputs=["report.html"])
