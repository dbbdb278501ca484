"""The base model and the student bases, as plain checkpoints.

    make base-model PROFILE=pocket

Gives `checkpoint/` (the teacher's base) and `students/<name>/`.
"""

from pipeline.base_models import fetch_base
from pipeline.context import StageContext, StageResult


def run(ctx: StageContext) -> StageResult:
    config, parameters = ctx.config, {}
    folders = {"teacher": ctx.folder / "checkpoint"} | {
        name: ctx.folder / "students" / name for name in config.students
    }
    for name, source in {"teacher": config.teacher, **config.students}.items():
        parameters[name] = fetch_base(source, folders[name], ctx.profile.dtype, config.tokenizers.get(name))
    for name, count in parameters.items():
        ctx.log.info("%s: %.2f million parameters", name, count / 1e6)
    return StageResult(outputs=["checkpoint", "students"], metrics={"parameters": parameters})
