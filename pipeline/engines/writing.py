"""Write a batch of completions with a `Decoder`: draws tokens, finds ends on the device, and drops ended rows."""

from collections.abc import Iterator, Sequence

import torch

from pipeline.config.engine import Sampling
from pipeline.core.watchdog import beat
from pipeline.engines.decoder import Decoder
from pipeline.engines.drawing import draw
from pipeline.engines.engine import RawCompletion

DENSE_SHARE = 0.8
"""Ended rows leave the batch once less than this share of it is still being written."""
LOOK_EVERY = 8
"""Tokens between two checks for ended rows on a GPU, which each check waits for; on a CPU every token is checked."""


@torch.inference_mode()
def write(
    decoder: Decoder,
    prompts: Sequence[list[int]],
    counts: Sequence[int],
    sampling: Sampling,
    end_ids: Sequence[int],
    generator: torch.Generator,
) -> Iterator[tuple[int, RawCompletion]]:
    """Write `counts[i]` completions of each prompt at once: pairs of a row's number and its completion, as rows end.

    Rows are numbered prompt by prompt. Lists are made once a completion, none a token.
    """
    decoding = decoder.begin(prompts, counts, sampling.max_tokens)
    batch = _Batch(sum(counts), sampling, _marked(end_ids, decoding.logits))
    look_every = 1 if decoding.logits.device.type == "cpu" else LOOK_EVERY
    for step in range(sampling.max_tokens):
        beat()
        tokens = batch.put(*draw(decoding.logits, sampling, generator))
        if step + 1 == sampling.max_tokens:
            break
        if step % look_every == 0:
            left = batch.left()
            if left == 0:
                break
            if left < DENSE_SHARE * len(tokens):
                yield from batch.completions(~batch.live)
                kept = batch.live.nonzero()[:, 0]
                tokens = tokens[kept]
                batch.keep(kept)
                decoding.keep(kept)
        decoding.step(tokens)
    yield from batch.completions(torch.ones_like(batch.live))


class _Batch:
    """What has been written of the rows of a batch."""

    def __init__(self, rows: int, sampling: Sampling, ends: torch.Tensor):
        device = ends.device
        self._ends, self._scored = ends, sampling.logprobs
        self._step = 0
        self._tokens = torch.zeros(rows, sampling.max_tokens, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(rows, sampling.max_tokens if self._scored else 0, device=device)
        self._rows = torch.arange(rows, device=device)
        """The number of each row that is still in the batch."""
        self._lengths = torch.full((rows,), sampling.max_tokens, device=device)
        """Tokens of each of them, once it has ended."""
        self.live = torch.ones(rows, dtype=torch.bool, device=device)
        """Which of them have not ended."""

    def put(self, tokens: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
        self._tokens[self._rows, self._step] = tokens
        if self._scored:
            self._logprobs[self._rows, self._step] = logprobs
        self._step += 1
        ended = self._ends[tokens] & self.live
        self._lengths.masked_fill_(ended, self._step)
        self.live &= ~ended
        return tokens

    def left(self) -> int:
        return int(self.live.sum())

    def keep(self, kept: torch.Tensor) -> None:
        self._rows, self._lengths, self.live = self._rows[kept], self._lengths[kept], self.live[kept]

    def completions(self, which: torch.Tensor) -> Iterator[tuple[int, RawCompletion]]:
        rows, lengths = self._rows[which], self._lengths[which].tolist()
        tokens = self._tokens[rows, : self._step].tolist()
        logprobs = self._logprobs[rows, : self._step].tolist()
        for row, length, ids, scores in zip(rows.tolist(), lengths, tokens, logprobs, strict=True):
            yield row, RawCompletion(ids[:length], scores[:length] if self._scored else None)


def _marked(end_ids: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
    """(vocabulary,) whether a token ends a completion."""
    size = logits.shape[-1]
    return torch.zeros(size, dtype=torch.bool, device=logits.device).index_fill_(
        0, torch.tensor([token for token in end_ids if token < size], dtype=torch.long, device=logits.device), True
    )
