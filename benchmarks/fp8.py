"""What block-wise FP8 costs in loss, beside bfloat16 and float32: a pocket pretraining and an SFT, on the same rows.

    python -m benchmarks.fp8 [--steps 200] [--out FILE]

The DeepSeek-V3 report (arXiv 2412.19437, section 3.3) states a relative loss error against bfloat16 below 0.25 %.
Prints the mean loss over the last tenth of the steps, and ends with 1 where FP8's is further from bfloat16's than that.
FP8 is emulated (`pipeline.training.fp8`), so no speed is measured. About ten minutes on two cores.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from rich.table import Table

from data_recipes.pocket.bases import base_folder
from data_recipes.pocket.corpus import documents
from data_recipes.pocket.tokenizer import build_tokenizer
from pipeline.config.sft import SFTSettings
from pipeline.core.tables import print_table
from pipeline.core.tokens import load_tokenizer
from pipeline.models.pocket.bases import read_recipes
from pipeline.models.pocket.pretrain import build_model, pretrain
from pipeline.training.fp8 import train_in_fp8
from pipeline.training.sft import train_sft

BASE = "teacher"
BOUND = 0.0025
WAYS = ("float32", "bfloat16", "fp8")


def pretraining(way: str, steps: int, folder: Path) -> list[float]:
    """Losses of so many steps of the teacher's own pretraining from nothing."""
    recipe = read_recipes()[BASE]
    tokenizer = build_tokenizer()
    model = build_model(recipe.architecture, tokenizer, recipe.seed)
    if way == "fp8":
        train_in_fp8(model)
    forward, losses = model.forward, []

    def recorded(**inputs):
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
            output = forward(**inputs)
        losses.append(output.loss.item())
        return output

    model.forward = recorded
    settings = recipe.training.model_copy(update={"steps": steps})
    pretrain(model, tokenizer, documents(recipe.corpus, recipe.seed), settings, folder, lambda figures: None)
    return losses


def fine_tuning(way: str, steps: int, folder: Path) -> list[float]:
    """Losses of so many steps of SFT of the teacher, on documents that its pretraining has not seen."""
    recipe = read_recipes()[BASE]
    batch = 32
    rows = list(itertools.islice(documents(recipe.corpus, recipe.seed + 1), steps * batch))
    losses: list[float] = []
    train_sft(
        model_path=base_folder(BASE),
        tokenizer=load_tokenizer(base_folder(BASE)),
        prompts=[prompt or " " for prompt, _ in rows],
        responses=[response for _, response in rows],
        settings=SFTSettings(
            epochs=1, learning_rate=1e-3, batch_size=batch, rows_per_device=batch, max_tokens=256, fp8=way == "fp8"
        ),
        output=folder,
        seed=1,
        device="cpu",
        dtype="bfloat16" if way == "bfloat16" else "float32",
        on_step=lambda step, steps, figures: losses.append(figures["loss"]),
    )
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results, table = {}, Table("training", "arithmetic", "loss, last tenth", "against bfloat16")
    for name, training in (("pretraining", pretraining), ("SFT", fine_tuning)):
        ends = {}
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                losses = training(way, options.steps, Path(folder))
            ends[way] = statistics.mean(losses[-max(1, len(losses) // 10) :])
        difference = {way: ends[way] / ends["bfloat16"] - 1 for way in WAYS}
        results[name] = {"steps": options.steps, "loss": ends, "relative_to_bfloat16": difference}
        for way in WAYS:
            table.add_row(name, way, f"{ends[way]:.4f}", f"{difference[way]:+.3%}")
    print_table(table, keys=2)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    worst = max(abs(result["relative_to_bfloat16"]["fp8"]) for result in results.values())
    print(f"largest difference of FP8 {worst:.3%}; bound {BOUND:.2%}")
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
