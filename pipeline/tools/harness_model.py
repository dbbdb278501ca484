"""A model that reasons, for lm-evaluation-harness.

The harness's defaults are for models that complete a text: a task without settings of its own stops at the first blank
line or after 256 tokens, which is inside the reasoning. Here nothing but an end token ends an answer while it is
written, the profile's length is given, and a task's stops apply to what stands behind the last `</think>`.
"""

import logging
from pathlib import Path

from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig

from pipeline.core.console import LOGGER
from pipeline.core.tokens import load_tokenizer
from pipeline.engines.engine import end_token_ids

THINK_END = "</think>"


class ReasoningModel(HFLM):
    """The harness's transformers model with room to reason. `max_tokens` is the longest answer, reasoning included."""

    def __init__(self, checkpoint: Path, max_tokens: int, **options):
        tokenizer = load_tokenizer(checkpoint)
        own = tokenizer.get_vocab().get(THINK_END)  # decoding leaves out special tokens
        special = own is not None and own in tokenizer.added_tokens_decoder
        super().__init__(
            pretrained=str(checkpoint), tokenizer=tokenizer, think_end_token=own if special else THINK_END, **options
        )
        self._max_tokens = max_tokens
        self._ends = end_token_ids(tokenizer, str(checkpoint))
        self.model.generation_config = GenerationConfig(  # nothing of the checkpoint's own but where it ends
            eos_token_id=sorted(self._ends), pad_token_id=tokenizer.pad_token_id
        )
        self.written = 0
        """Answers, and how many of them were cut at their longest."""
        self.cut = 0

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Gives each request the room that its context leaves, and takes out stops that any reasoning contains."""
        for request in requests:
            context, settings = request.args
            asked = [settings.get(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens")]
            room = self.max_length - len(self.tok_encode(context))
            wanted = max(self._max_tokens, *(length for length in asked if length), 1)
            until = settings.get("until") or []
            stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop.strip()]
            kept = {name: value for name, value in settings.items() if name not in ("max_new_tokens", "max_tokens")}
            request.arguments = (context, {**kept, "until": stops, "max_gen_toks": max(1, min(wanted, room))})
        answers = super().generate_until(requests, disable_tqdm)
        if self.cut:
            logging.getLogger(LOGGER).warning(
                "%d of %d answers were cut at their longest, %d tokens or what the model's context of %d leaves: they "
                "count as they are. Raise stages.evaluate.sampling.max_tokens.",
                self.cut, self.written, self._max_tokens, self.max_length,
            )  # fmt: skip
        return answers

    def _model_generate(self, context, max_length, stop, **generation_kwargs):
        """Writes on until an end token; `generate_until` applies the task's stops to the answer afterwards."""
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        written = super()._model_generate(context, max_length, [end], **generation_kwargs)
        for row in written[:, context.shape[1] :].tolist():
            self.written += 1
            self.cut += len(row) == max_length - context.shape[1] and not self._ends & set(row)
        return written
