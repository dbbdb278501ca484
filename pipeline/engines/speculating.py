"""Writes completions with drafts of the model's own multi-token prediction module (DeepSeek-V3, arXiv 2412.19437, 2.2).

Each pass of the main model takes a row's last token and one drafted behind it, and so writes one token or two. Drafts
are accepted by rejection sampling (arXiv 2211.17192, algorithm 1): what is written, and the log-probability that is
told of it, is what the main model would have written alone.
"""

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache

from pipeline.config.engine import Sampling
from pipeline.core.watchdog import beat
from pipeline.engines.drawing import draw, drawn_from, picked
from pipeline.engines.engine import EngineStats, RawCompletion
from pipeline.engines.writing import DENSE_SHARE


@torch.inference_mode()
def write_with_drafts(
    model,
    prompts: Sequence[list[int]],
    counts: Sequence[int],
    sampling: Sampling,
    end_ids: Sequence[int],
    generator: torch.Generator,
    stats: EngineStats,
) -> Iterator[tuple[int, RawCompletion]]:
    """Write `counts[i]` completions of each prompt at once: pairs of a row's number and its completion, as rows end.

    Rows are numbered prompt by prompt. `stats` counts the tokens that were drafted and those that were accepted.
    """
    drafting = _Drafting(model, prompts, counts)
    written = _Written(sum(counts), sampling, end_ids, drafting.logits.device)
    last, scores = draw(drafting.logits, sampling, generator)
    written.put(last, scores, torch.ones_like(written.live))
    drafting.begin(last)
    while bool(written.live.any()):
        beat()
        if int(written.live.sum()) < DENSE_SHARE * len(last):
            yield from written.completions(~written.live)
            kept = written.live.nonzero()[:, 0]
            last = last[kept]
            written.keep(kept)
            drafting.keep(kept)
        drafts, _ = draw(drafting.draft_logits, sampling, generator)
        first, second = drafting.verify(last, drafts)
        told, scores, accepted = _settled(drafts, drafting.draft_logits, first, sampling, generator)
        stats.drafted += int(written.live.sum())
        stats.accepted += int((accepted & written.live).sum())
        further, further_scores = draw(second, sampling, generator)
        written.put(told, scores, torch.ones_like(accepted))
        written.put(further, further_scores, accepted)
        drafting.note(told, further, accepted)
        last = torch.where(accepted, further, told)
    yield from written.completions(torch.ones_like(written.live))


def _settled(drafts, draft_logits, logits, sampling: Sampling, generator) -> tuple[torch.Tensor, ...]:
    """Of (rows,) drafts from (rows, vocabulary) `draft_logits`: the tokens that stand in their place, distributed as
    `logits` say, their log-probabilities under these, and which drafts were accepted."""
    wanted = drawn_from(logits, sampling).log_softmax(-1)
    if sampling.temperature == 0:
        tokens = wanted.argmax(-1)
        accepted = tokens == drafts
    else:
        drafted, wanted_p = drawn_from(draft_logits, sampling).softmax(-1), wanted.exp()
        one = drafts[:, None]
        chance = torch.rand(len(drafts), 1, generator=generator, device=drafts.device)
        accepted = (chance * drafted.gather(1, one) < wanted_p.gather(1, one))[:, 0]
        left = (wanted_p - drafted).clamp_(min=0)  # what the drafts fall short of
        left = torch.where(left.sum(-1, keepdim=True) > 0, left, wanted_p)
        tokens = torch.where(accepted, drafts, picked(left, generator))
    return tokens, wanted.gather(1, tokens[:, None])[:, 0], accepted


class _Drafting:
    """The rows' cache, of the main layers and the module's alike, and what is known behind their last tokens.

    Prompts are padded on the left, so that all rows write the same slots. A slot whose draft was rejected stays hidden.
    """

    def __init__(self, model, prompts: Sequence[list[int]], counts: Sequence[int]):
        self._model, self._cache = model, DynamicCache()
        device, width = model.device, max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(one)) + one for one in prompts], device=device)
        self._seen = torch.tensor([[False] * (width - len(one)) + [True] * len(one) for one in prompts], device=device)
        """(rows, slots) which slots hold tokens of the row's text."""
        positions = (self._seen.long().cumsum(1) - 1).clamp(min=0)
        mask = self._seen[:, None] & torch.ones(width, width, dtype=torch.bool, device=device).tril()
        mask = (mask | torch.eye(width, dtype=torch.bool, device=device))[:, None]  # padding sees itself
        hidden = self._main(ids, positions, mask)
        if width > 1:
            model.ahead(hidden[:, :-1], ids[:, 1:], positions[:, :-1], mask[..., :-1, :-1], past_key_values=self._cache)
        self._hidden, self._position = hidden[:, -1], positions[:, -1]
        """Of each row the main model's last state, and its position."""
        self.logits = model.lm_head(self._hidden)
        """(rows, vocabulary) of the first token."""
        self.draft_logits = self.logits
        rows = torch.arange(len(prompts), device=device)
        self.keep(rows.repeat_interleave(torch.tensor(counts, device=device)))

    def keep(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may come several times."""
        self._cache.batch_select_indices(rows)
        self._seen, self._hidden, self._position = self._seen[rows], self._hidden[rows], self._position[rows]
        self.logits, self.draft_logits = self.logits[rows], self.draft_logits[rows]

    def begin(self, tokens: torch.Tensor) -> None:
        """Draft behind the first token of each row."""
        mask = self._seen[:, None, None]
        states = self._ahead(self._hidden[:, None], tokens[:, None], self._position[:, None], mask)
        self.draft_logits = self._model.lm_head(states[:, -1])
        self._position = self._position + 1  # that of the last token

    def verify(self, last: torch.Tensor, drafts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, vocabulary) logits behind each row's last token, and behind the token drafted after it."""
        ids = torch.stack([last, drafts], dim=1)
        self._pair = self._position[:, None] + torch.arange(2, device=last.device)
        self._mask = self._pair_mask()
        self._states = self._main(ids, self._pair, self._mask)
        logits = self._model.lm_head(self._states)
        return logits[:, 0], logits[:, 1]

    def note(self, told: torch.Tensor, further: torch.Tensor, accepted: torch.Tensor) -> None:
        """Take `told` behind the last token, and `further` where the draft was accepted; draft what comes next."""
        next_ids = torch.stack([told, further], dim=1)
        states = self._ahead(self._states, next_ids, self._pair, self._mask)
        behind = accepted.long()
        self.draft_logits = self._model.lm_head(states[torch.arange(len(told), device=told.device), behind])
        self._seen = torch.cat([self._seen, torch.ones_like(accepted)[:, None], accepted[:, None]], dim=1)
        self._position = self._position + 1 + behind

    def _pair_mask(self) -> torch.Tensor:
        """(rows, 1, 2, slots + 2): two new slots see the text, and themselves in order."""
        own = torch.ones(2, 2, dtype=torch.bool, device=self._seen.device).tril()
        rows = len(self._seen)
        return torch.cat([self._seen[:, None].expand(-1, 2, -1), own.expand(rows, -1, -1)], dim=2)[:, None]

    def _main(self, ids, positions, mask) -> torch.Tensor:
        return self._model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self._cache, use_cache=True
        ).last_hidden_state

    def _ahead(self, hidden, next_ids, positions, mask) -> torch.Tensor:
        return self._model.ahead(hidden, next_ids, positions, mask, past_key_values=self._cache)


class _Written:
    """What has been written of the rows of a batch."""

    def __init__(self, rows: int, sampling: Sampling, end_ids: Sequence[int], device: torch.device):
        self._most = most = sampling.max_tokens
        self._scored, self._ends = sampling.logprobs, torch.tensor(sorted(end_ids), device=device)
        self._tokens = torch.zeros(rows, most + 1, dtype=torch.long, device=device)
        self._scores = torch.zeros(rows, most + 1, device=device)
        self._rows = torch.arange(rows, device=device)
        """The number of each row that is still in the batch."""
        self._lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.live = torch.ones(rows, dtype=torch.bool, device=device)
        """Which of them have not ended."""

    def put(self, tokens: torch.Tensor, scores: torch.Tensor, which: torch.Tensor) -> None:
        """Append a token to the rows of `which` that are still written."""
        here = which & self.live
        places = torch.where(here, self._lengths[self._rows], self._most)  # a column that nobody reads
        self._tokens[self._rows, places] = tokens
        self._scores[self._rows, places] = scores
        self._lengths[self._rows] += here
        self.live &= ~(here & (torch.isin(tokens, self._ends) | (self._lengths[self._rows] >= self._most)))

    def keep(self, kept: torch.Tensor) -> None:
        self._rows, self.live = self._rows[kept], self.live[kept]

    def completions(self, which: torch.Tensor) -> Iterator[tuple[int, RawCompletion]]:
        for row in self._rows[which].tolist():
            length = int(self._lengths[row])
            scores = self._scores[row, :length].tolist() if self._scored else None
            yield row, RawCompletion(self._tokens[row, :length].tolist(), scores)
