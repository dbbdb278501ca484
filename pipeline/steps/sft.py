"""What the SFT stages share: rows in, a fine-tuned checkpoint out."""

import time
from pathlib import Path

from data_recipes.question import asked
from data_recipes.templates import chat_prompt
from pipeline.config.sft import SFTSettings
from pipeline.core.errors import ConfigError
from pipeline.core.files import read_json_lines
from pipeline.core.tokens import load_tokenizer
from pipeline.steps.context import StageContext, StageResult
from pipeline.training.checkpoints import checkpoint_step, last_checkpoint
from pipeline.training.records import METRICS, append_record, forget_later_steps, read_records
from pipeline.training.sft import SFTResult, encode_rows, train_sft
from pipeline.training.trainer_io import read_result, write_result

RESULT = "result.json"


def fine_tune_teacher(ctx: StageContext) -> StageResult:
    """The checkpoint that the stage starts from, fine-tuned on the rows that it learns from: Dev1 and Dev3."""
    result = fine_tune(ctx, ctx.start(), ctx.learns_from.rows, ctx.config.sft, ctx.folder, "fine-tuning")
    return StageResult(
        outputs=["checkpoint"],
        metrics={"rows": result.rows, "steps": result.steps, "loss": result.final_loss},
        tokens={"trained": result.tokens},
        scratch=["trainer"],
    )


def fine_tune(
    ctx: StageContext, model: Path, rows: Path, settings: SFTSettings, output: Path, description: str
) -> SFTResult:
    """Fine-tunes `model` on the `question` and `response` of each row, prompts in the model's chat template.

    Writes `checkpoint/`, `metrics.jsonl` and `result.json` into `output`. A finished training is not
    repeated; an interrupted one continues from its last checkpoint.
    """
    if next(iter(read_json_lines(rows)), None) is None:
        raise ConfigError(
            f"{ctx.stage_id}: {rows} holds no rows, so there is nothing to train on. See its dropped.jsonl."
        )
    output.mkdir(exist_ok=True)
    finished = read_result(output / RESULT, SFTResult, output / "checkpoint")
    if finished is not None:
        ctx.log.info("%s: finished already", description)
        return finished
    checkpoint = last_checkpoint(output / "trainer")
    forget_later_steps(output / METRICS, checkpoint_step(checkpoint) if checkpoint else 0)
    result = ctx.together(
        _train, model=model, rows=rows, settings=settings, output=output, description=description, checkpoint=checkpoint
    )
    write_result(output / RESULT, result, output / "checkpoint")
    if result.dropped_too_long:
        ctx.log.warning(
            "%s: %d of %d rows are longer than sft.max_tokens %d and were left out",
            description, result.dropped_too_long, result.rows + result.dropped_too_long, settings.max_tokens,
        )  # fmt: skip
    ctx.log.info("%s: %d rows, %d steps, loss %.3f", description, result.rows, result.steps, result.final_loss)
    return result


def tokens_an_epoch(model: Path, rows: Path, settings: SFTSettings) -> int:
    """Prompt and completion tokens that an epoch over the rows trains `model` on."""
    tokenizer, data = load_tokenizer(model), [row for _, row in read_json_lines(rows)]
    encoded, _ = encode_rows(tokenizer, *_texts(tokenizer, data), settings.max_tokens)
    return sum(len(row["input_ids"]) for row in encoded)


def seconds_of(output: Path) -> float:
    """Of all optimizer steps that `fine_tune` made in that folder; those of a run made before this was noted count
    nothing."""
    return sum(record.get("seconds_step", 0.0) for record in read_records(output / METRICS))


def _texts(tokenizer, data: list[dict]) -> tuple[list[str], list[str]]:
    """(prompts, responses) of rows."""
    prompts = [chat_prompt(tokenizer, asked(row["question"], row.get("ask"))) for row in data]
    return prompts, [row["response"] for row in data]


def _train(
    ctx: StageContext,
    model: Path,
    rows: Path,
    settings: SFTSettings,
    output: Path,
    description: str,
    checkpoint: Path | None,
) -> SFTResult:
    """In every process of the run."""

    if ctx.device != "cpu":
        ctx.engines.close()  # its weights and cache take GPU memory that training needs
    tokenizer = load_tokenizer(model)
    data = [row for _, row in read_json_lines(rows)]
    prompts, responses = _texts(tokenizer, data)
    with ctx.progress(description, None) as bar:
        since = time.perf_counter()

        def on_step(step: int, steps: int, figures: dict) -> None:
            nonlocal since
            since, seconds = time.perf_counter(), time.perf_counter() - since
            bar.total = steps
            bar.update(step, loss=figures["loss"])
            if not ctx.crew.leads:
                return
            append_record(output / METRICS, {"step": step, **figures, "seconds_step": seconds})

        return train_sft(
            model_path=model,
            tokenizer=tokenizer,
            prompts=prompts,
            responses=responses,
            settings=settings,
            output=output,
            seed=ctx.seed,
            device=ctx.device,
            dtype=ctx.profile.dtype,
            on_step=on_step,
            resume_from=checkpoint,
            nonfinite_steps=ctx.profile.watchdog.nonfinite_steps,
            on_checkpoint=lambda step: ctx.checkpointed(step, bar.total, "step"),
            parallel=ctx.profile.parallel,
        )
