"""What the SFT stages share: rows in, a fine-tuned checkpoint out."""

import json
from pathlib import Path

from data_recipes.rows import read_json_lines, write_json_lines
from data_recipes.templates import chat_prompt
from pipeline.context import StageContext, StageResult
from pipeline.errors import ConfigError
from pipeline.training.sft import SFTResult, SFTSettings, train_sft


def fine_tune_base(ctx: StageContext, rows_from: str) -> StageResult:
    """The teacher's base, fine-tuned on the rows of the stage `rows_from`: Dev1 and Dev3."""
    rows = ctx.inputs[rows_from].folder / "rows.jsonl"
    result = fine_tune(ctx, ctx.inputs["base_model"].checkpoint, rows, ctx.config.sft, ctx.folder, "fine-tuning")
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

    Writes `checkpoint/` and `metrics.jsonl` into `output`.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    data = [row for _, row in read_json_lines(rows)]
    if not data:
        raise ConfigError(
            f"{ctx.stage_id}: {rows} holds no rows, so there is nothing to train on. See its dropped.jsonl."
        )
    output.mkdir(exist_ok=True)
    forget_later_steps(output)
    with ctx.progress(description, None) as bar, (output / "metrics.jsonl").open("a", encoding="utf-8") as metrics:

        def on_step(step: int, steps: int, figures: dict) -> None:
            bar.total = steps
            bar.update(step, loss=figures["loss"])
            metrics.write(json.dumps({"step": step, **figures}) + "\n")
            if step % settings.checkpoint_every == 0:
                ctx.checkpointed(step, steps, "step")

        result = train_sft(
            model_path=model,
            tokenizer=tokenizer,
            prompts=[chat_prompt(tokenizer, row["question"]) for row in data],
            responses=[row["response"] for row in data],
            settings=settings,
            output=output,
            seed=ctx.seed,
            device=ctx.device,
            dtype=ctx.profile.dtype,
            on_step=on_step,
        )
    if result.dropped_too_long:
        ctx.log.warning(
            "%s: %d of %d rows are longer than sft.max_tokens %d and were left out",
            description, result.dropped_too_long, len(data), settings.max_tokens,
        )  # fmt: skip
    ctx.log.info("%s: %d rows, %d steps, loss %.3f", description, result.rows, result.steps, result.final_loss)
    return result


def forget_later_steps(output: Path) -> None:
    """Drops from `metrics.jsonl` the steps that an interrupted run made after its last whole checkpoint."""
    from pipeline.training.grpo_checkpoints import checkpoint_step, last_checkpoint

    path = output / "metrics.jsonl"
    if path.is_file():
        checkpoint = last_checkpoint(output / "trainer")
        reached = checkpoint_step(checkpoint) if checkpoint else 0
        write_json_lines(path, [row for _, row in read_json_lines(path) if row["step"] <= reached])
