"""The base model and the student bases, as plain checkpoints.

    make base-model PROFILE=pocket

Gives `checkpoint/` (the teacher's base) and `students/<name>/`.
"""

from pipeline.base_models import fetch_base
from pipeline.context import StageContext, StageResult


def run(ctx: StageContext) -> StageResult:
    parameters = {"teacher": fetch_base(ctx.config.teacher, ctx.folder / "checkpoint", ctx.profile.dtype)}
    for name, source in ctx.config.students.items():
        parameters[name] = fetch_base(source, ctx.folder / "students" / name, ctx.profile.dtype)
    for name, count in parameters.items():
        ctx.log.info("%s: %.2f million parameters", name, count / 1e6)
    return StageResult(outputs=["checkpoint", "students"], metrics={"parameters": parameters})
