"""The paper's effects, as `pipeline.claims` judges them on this run."""

from pipeline.claims import Claim, judge_run
from pipeline.reporting.records import RunRecord


def verdicts(run: RunRecord) -> list[Claim] | None:
    """Every claim with its test, figures and verdict; None while `evaluate` is not done, or stale."""
    if run.stages["evaluate"].state != "done":
        return None
    return judge_run(run.profile, run.folder)
