"""The base model and the student bases, as plain checkpoints.

    make base-model PROFILE=pocket

Gives `checkpoint/` (the teacher's base) and `students/<name>/`.
"""

from pipeline.models.sources import fetch_base
from pipeline.steps.context import StageContext, StageResult


def run(ctx: StageContext) -> StageResult:
    config, parameters = ctx.config, {}
    for name, source in {"teacher": config.teacher, **config.students}.items():
        folder = ctx.folder / ("checkpoint" if name == "teacher" else f"students/{name}")
        tokens, context = config.tokenizers.get(name), config.contexts.get(name)
        parameters[name] = fetch_base(source, folder, ctx.profile.dtype, tokens, context)
    for name, count in parameters.items():
        ctx.log.info("%s: %.2f million parameters", name, count / 1e6)
    return StageResult(outputs=["checkpoint", "students"], metrics={"parameters": parameters})
