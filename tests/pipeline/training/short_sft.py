"""SFT of a tiny base for four steps, whole or cut off and resumed."""

import pytest
from transformers import AutoTokenizer

from pipeline.config.sft import SFTSettings
from pipeline.training.checkpoints import last_checkpoint
from pipeline.training.sft import train_sft


class Cut(Exception):
    """Ends a training as if its process had been killed."""


def fine_tune(start, output, on_step=lambda *_: None, **settings):
    """Goes on from the last checkpoint in `output`, which has one after every second step."""
    return train_sft(
        model_path=start, tokenizer=AutoTokenizer.from_pretrained(start), prompts=["What is 1 + 1 ?"] * 8,
        responses=[f"It is {n} ." for n in range(8)], output=output, seed=1, device="cpu", dtype="float32",
        settings=SFTSettings(
            epochs=1, learning_rate=1e-3, batch_size=2, rows_per_device=1, max_tokens=64, checkpoint_every=2, **settings
        ),
        on_step=on_step, resume_from=last_checkpoint(output / "trainer"),
    )  # fmt: skip


def fine_tune_in_two(start, output, **settings) -> None:
    """Cut off at the third step, then gone on with to the end."""

    def cut(step, steps, figures):
        if step == 3:
            raise Cut

    with pytest.raises(Cut):
        fine_tune(start, output, cut, **settings)
    fine_tune(start, output, **settings)
