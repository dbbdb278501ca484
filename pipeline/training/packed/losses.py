"""SFT and reward models trained on the real tokens of their batches: rows end to end, as in RL, where TRL pads them.

Loss and gradients are TRL's on the padded batch. Models that a packed forward pass does not compute stay padded.
"""

import logging

import torch
from accelerate.utils import is_peft_model
from torch.nn.functional import logsigmoid

from pipeline.core.console import LOGGER
from pipeline.core.packable import not_packed
from pipeline.training.packed.attention import attach_packed_forward, attach_packed_scores
from pipeline.training.packed.packing import Row, pack


def can_pack(model: torch.nn.Module) -> bool:
    """Whether a packed forward pass can compute this model; logs the reason if not."""
    other = not_packed(model.config)
    if other:
        logging.getLogger(LOGGER).warning(
            "Training runs without packing: the model has %s, which a packed forward pass does not compute.",
            ", ".join(other),
        )
    return not other


def without_adapters(trainer, model) -> torch.nn.Module:
    """Unwraps the model from accelerate and peft."""
    plain = trainer.accelerator.unwrap_model(model)
    return plain.get_base_model() if is_peft_model(plain) else plain


class _Packed:
    """Mixin; list it before a TRL trainer. Subclasses define how the model is called, and the loss."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        plain = without_adapters(self, self.model)
        self._packs = can_pack(plain)
        if self._packs:
            self.attach(plain)
        self._figures: dict[str, list[float]] = {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self._packs or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        lengths = inputs["attention_mask"].sum(1).tolist()
        texts = [ids[:length] for ids, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        return self.packed_loss(model, texts, inputs, num_items_in_batch)

    def note(self, **figures: torch.Tensor) -> None:
        """Figures of a batch; what is logged of an optimizer step is their mean over its batches."""
        for name, value in figures.items():
            self._figures.setdefault(name, []).append(value.item())

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self._figures.items()}
            self._figures.clear()
        super().log(logs, *args, **kwargs)


class PackedAnswers(_Packed):
    """For `SFTTrainer`: positions that predict no label do not go through the head.

    With `mtp_weight` the loss of the model's multi-token prediction module is added (DeepSeek-V3, arXiv 2412.19437,
    equations 24 and 25): of the token after the next, where a label is the next.
    """

    def __init__(self, *args, mtp_weight: float = 0.0, **kwargs):
        self._mtp_weight = mtp_weight
        super().__init__(*args, **kwargs)
        if mtp_weight and not self._packs:
            raise ValueError(f"mtp_weight is {mtp_weight:g}, but this model is trained without packing; set it to 0")

    def attach(self, model: torch.nn.Module) -> None:
        attach_packed_forward(model, temperature=1.0)

    def packed_loss(self, model, texts: list[list[int]], inputs, tokens: torch.Tensor | int | None) -> torch.Tensor:
        """-log p of the labels, summed and divided by their number in the whole optimizer step, `tokens`."""
        unlabelled = (inputs["labels"] == -100).int().cumprod(1).sum(1).tolist()
        # Nothing comes before a text's first token, so nothing predicts it, labelled or not.
        rows = [_row(ids[: max(1, first)], ids[max(1, first) :]) for ids, first in zip(texts, unlabelled, strict=True)]
        batch = pack([r for r in rows if r.completion_ids], False, inputs["labels"].device)
        options = {"ahead": True} if self._mtp_weight else {}
        log_probs, entropies, *further = model(packed=batch, **options)
        here = log_probs.new_tensor(len(log_probs))
        summed = log_probs.sum() + self._mtp_weight * sum(each.sum() for each in further)
        loss = -summed / torch.as_tensor(here if tokens is None else tokens).clamp(min=1)
        if tokens is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # they average gradients, and `tokens` counts those of all
        entropy, count = self.accelerator.gather(torch.stack([entropies.sum(), here])[None]).sum(0)
        self.note(entropy=entropy / count)
        for each in further:
            missed, of = self.accelerator.gather(
                torch.stack([-each.detach().sum(), here.new_tensor(len(each))])[None]
            ).sum(0)
            self.note(mtp_loss=missed / of.clamp(min=1))
        return loss


class PackedPairs(_Packed):
    """For `RewardTrainer`: one score a text, at its last token."""

    def attach(self, model: torch.nn.Module) -> None:
        attach_packed_scores(model)

    def packed_loss(self, model, texts: list[list[int]], inputs, tokens: torch.Tensor | int | None) -> torch.Tensor:
        """-log sigmoid(score of the chosen text - score of the rejected one), the mean over pairs; the first half of
        `texts` are the chosen ones."""
        padding = without_adapters(self, model).config.get_text_config().pad_token_id
        rows = [_row(_scored(ids, padding), [0]) for ids in texts]  # the last token of a prompt predicts one token
        scores = model(packed=pack(rows, False, inputs["input_ids"].device))
        chosen, rejected = scores.chunk(2)
        every = self.accelerator.gather(torch.stack([chosen, rejected], dim=1).detach()).float()
        margin = every[:, 0] - every[:, 1]
        self.note(
            min_reward=every.min(),
            mean_reward=every.mean(),
            max_reward=every.max(),
            accuracy=(margin > 0).float().mean(),
            margin=margin.mean(),
        )
        return -logsigmoid(chosen - rejected).mean()


def _row(prompt: list[int], completion: list[int]) -> Row:
    return Row(prompt, completion, advantage=0.0, sampler_logprobs=None, truncated=False, group=0)


def _scored(ids: list[int], padding: int | None) -> list[int]:
    """A text up to the token that transformers reads its score at: the last that is not the padding token."""
    last = next((place for place in reversed(range(len(ids))) if ids[place] != padding), 0)
    return ids[: last + 1]
