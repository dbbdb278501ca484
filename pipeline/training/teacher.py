"""The model that a policy is distilled from on its own samples: its log-probabilities of each token that was sampled.

    train_grpo(..., teacher=Teaching(Path("runs/pocket-seed0/general_rl/checkpoint")))

The difference of the two models' log-probabilities is the advantage of the token (`pipeline.training.grpo.loss`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.core.causal_lm import load_causal_lm
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import load_tokenizer, token_difference
from pipeline.training.flops import ModelFlops
from pipeline.training.packed.packing import Row


@dataclass(frozen=True)
class Teaching:
    """Who teaches, and how much it counts."""

    checkpoint: Path
    weight: float = 1.0
    """Of the teacher's advantages, beside those that rewards give."""


class Teacher:
    """Held whole in each process, on its device, without gradients, in the arithmetic's type."""

    def __init__(self, trainer, teaching: Teaching):
        self._trainer, self.weight = trainer, teaching.weight
        dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
        model = load_causal_lm(teaching.checkpoint, dtype=dtype, trust_remote_code=False)
        self.model = model.requires_grad_(False).eval().to(trainer.accelerator.device)
        self.flops = ModelFlops(self.model)

    @torch.no_grad()
    def logprobs(self, rows: list[Row]) -> torch.Tensor:
        """(rows, longest completion) log-probabilities of the rows' completion tokens, at the policy's temperature."""
        return self._trainer.logprobs_and_entropies(self.model, rows, entropy=False)[0]


def check_same_tokens(student: Path, teacher: Path) -> None:
    """Raises ConfigError unless a token of the student's is the same text, and the same end, to the teacher.

    Log-probabilities are compared token by token, so that another vocabulary, end token or chat template would compare
    things that are not the same.
    """
    ours, theirs = load_tokenizer(student), load_tokenizer(teacher)
    why = token_difference(ours, theirs)
    if why:
        raise ConfigError(
            f"{student} cannot be distilled on-policy from {teacher}: {why}. The teacher has to give the probability "
            "of each token that the student writes, so both need one tokenizer. Distil by SFT (method: sft), which "
            "passes on texts, or take a student base with the teacher's tokenizer."
        )
