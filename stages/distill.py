"""R1-Distill: each student base, fine-tuned on the rows that the teacher's rejection sampling gave. No RL.

    make distill PROFILE=pocket

With `method: on_policy` it learns from samples of its own instead, of which R1 gives the probability of every token;
`sft_then_on_policy` does one after the other. `compare` distils a student by further methods as well, with as many
tokens. Gives `students/<name>/checkpoint/`, and `students/<name>/<method>/checkpoint/` of those.
"""

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.distill import SCRATCH, check_students, distil


def run(ctx: StageContext) -> StageResult:
    config, folders = ctx.config, {}
    for name in ctx.profile.stages.base_model.students:
        folders[name] = (name, config.method)
    for name, methods in config.compare.items():
        folders |= {f"{name}/{method}": (name, method) for method in methods}
    check_students(ctx, {name: {m for other, m in folders.values() if other == name} for name, _ in folders.values()})
    made = {
        output: distil(ctx, name, method, ctx.folder / "students" / output)
        for output, (name, method) in folders.items()
    }
    return StageResult(
        outputs=[ctx.stage.checkpoint(output) for output in made],
        metrics={output: {**distilled.metrics, "seconds": distilled.seconds} for output, distilled in made.items()},
        tokens={output: distilled.tokens for output, distilled in made.items()},
        scratch=[f"students/{output}/{name}" for output in made for name in SCRATCH],
    )
