"""Drawing the next token from logits, with the log-probability it was drawn with."""

import torch

from pipeline.config.engine import Sampling


def drawn_from(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """(rows, vocabulary) logits of the distribution that `sampling` draws from: temperature and top-p applied; for
    greedy decoding the model's own."""
    logits = logits.float()
    if sampling.temperature == 0:
        return logits
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    return _keep_top_p(logits, sampling.top_p) if sampling.top_p < 1 else logits


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, vocabulary) logits of a model → (rows,) tokens and (rows,) log-probabilities of them.

    On a CPU by inverse transform sampling: one random number a row, where `torch.multinomial` draws one an entry of
    the vocabulary. On a GPU running sums need not rise, so a token of no probability could be hit.
    """
    logits = drawn_from(logits, sampling)
    normaliser = logits.logsumexp(-1, keepdim=True)
    if sampling.temperature == 0:
        tokens = logits.argmax(-1, keepdim=True)
    elif logits.device.type == "cpu":
        below = (logits - normaliser).exp_().cumsum(-1)
        whole = below[:, -1:]
        point = torch.rand(len(logits), 1, generator=generator) * whole
        # Below the whole sum, which rounding might reach: the first sum above the point then belongs to a token with
        # some probability.
        point = torch.minimum(point, torch.nextafter(whole, torch.zeros_like(whole)))
        tokens = torch.searchsorted(below, point, right=True)
    else:
        tokens = torch.multinomial((logits - normaliser).exp_(), 1, generator=generator)
    return tokens[:, 0], (logits.gather(-1, tokens) - normaliser)[:, 0]


def _keep_top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Set to -inf all but the smallest set of tokens whose probability reaches `top_p`; the likeliest always stays."""
    ordered, index = scores.sort(dim=-1, descending=True)
    each = ordered.softmax(-1)
    likelier = each.cumsum(-1) - each  # probability of all tokens ahead in the order
    dropped = torch.zeros_like(likelier, dtype=torch.bool).scatter(-1, index, likelier >= top_p)
    return scores.masked_fill(dropped, float("-inf"))
