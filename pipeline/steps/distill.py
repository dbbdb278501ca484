"""How a student is distilled: on the teacher's rows, on samples of its own, or on the one after the other."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.policy import BOTH, SFT, Budget, DistillMethod
from pipeline.ladder import STAGES
from pipeline.steps.context import StageContext
from pipeline.steps.rl import policy_metrics, train_policy
from pipeline.steps.sampling import SHARDS
from pipeline.steps.sft import RESULT, fine_tune, seconds_of, tokens_an_epoch
from pipeline.training.best import BEST
from pipeline.training.teacher import Teaching, check_same_tokens
from pipeline.training.trainer_io import read_result, write_result

FIRST = "first"
"""Where the SFT lies that comes before samples of the student's own."""
PART = "on_policy"
SCRATCH = ("trainer", SHARDS, BEST, FIRST)


@dataclass(frozen=True)
class Distilled:
    """One student, distilled one way."""

    tokens: int
    """Those of every epoch over rows, and prompts and completions of every rollout."""
    seconds: float
    """Of all optimizer steps."""
    metrics: dict[str, Any] = field(default_factory=dict)


def check_students(ctx: StageContext, methods: dict[str, set[DistillMethod]]) -> None:
    """Raises ConfigError for a student that is to learn from samples of its own and has another tokenizer than the
    teacher, before any is trained."""
    for student, chosen in methods.items():
        if chosen != {SFT}:
            check_same_tokens(ctx.start(student), _teacher(ctx))


def distil(ctx: StageContext, student: str, method: DistillMethod, folder: Path) -> Distilled:
    """Trains the student's base; the checkpoint and its records are in `folder`. What has finished is not repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    rate = ctx.config.learning_rates.get(student, ctx.config.sft.learning_rate)
    settings = ctx.config.sft.model_copy(update={"learning_rate": rate})
    start, rows, what = ctx.start(student), ctx.learns_from.rows, f"distilling into {student}"
    if method == SFT:
        result = fine_tune(ctx, start, rows, settings, folder, what)
        metrics = {"rows": result.rows, "steps": result.steps, "loss": result.final_loss}
        return Distilled(result.tokens, seconds_of(folder), metrics)
    settled = read_result(folder / RESULT, Distilled, folder / "checkpoint")
    if settled is not None:
        ctx.log.info("%s on-policy: finished already", what)
        return settled
    tokens, seconds = 0, 0.0
    if method == BOTH:
        first, epochs = folder / FIRST, ctx.config.on_policy.sft_epochs
        tokens = fine_tune(ctx, start, rows, settings.model_copy(update={"epochs": epochs}), first, what).tokens
        start, seconds = first / "checkpoint", seconds_of(first)
    budget = ctx.config.on_policy.budget
    if budget.is_open:
        left = settings.epochs * tokens_an_epoch(start, rows, settings) - tokens
        budget = Budget(tokens=max(1, left))
    inside = ctx.within(PART, folder)
    result, tried = train_policy(inside, start, budget, Teaching(_teacher(ctx), ctx.config.on_policy.teacher_weight))
    distilled = Distilled(
        tokens + result.tokens_seen + tried,
        seconds + result.step_s,
        {"method": method, **policy_metrics(inside, result)},
    )
    write_result(folder / RESULT, distilled, folder / "checkpoint")
    ctx.log.info("%s on-policy: %d steps, %d tokens", what, result.steps, distilled.tokens)
    return distilled


def _teacher(ctx: StageContext) -> Path:
    stage = STAGES[ctx.stage.teacher]
    return ctx.inputs[stage.id].folder / stage.checkpoint()
