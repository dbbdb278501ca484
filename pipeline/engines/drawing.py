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
    """(rows, vocabulary) logits of a model → (rows,) tokens and (rows,) log-probabilities of them."""
    logits = drawn_from(logits, sampling)
    normaliser = logits.logsumexp(-1, keepdim=True)
    tokens = logits.argmax(-1) if sampling.temperature == 0 else picked((logits - normaliser).exp_(), generator)
    return tokens, (logits.gather(-1, tokens[:, None]) - normaliser)[:, 0]


def picked(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(rows,) tokens drawn in proportion to (rows, vocabulary) weights, of which each row has one above zero.

    On a CPU by inverse transform sampling: one random number a row, where `torch.multinomial` draws one an entry of
    the vocabulary. On a GPU running sums need not rise, so a token of no probability could be hit.
    """
    if weights.device.type != "cpu":
        return torch.multinomial(weights, 1, generator=generator)[:, 0]
    below = weights.cumsum(-1)
    whole = below[:, -1:]
    point = torch.rand(len(weights), 1, generator=generator) * whole
    # Below the whole sum, which rounding might reach: the first sum above the point then belongs to a token with some
    # probability.
    point = torch.minimum(point, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(below, point, right=True)[:, 0]


def _keep_top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Set to -inf all but the smallest set of tokens whose probability reaches `top_p`; the likeliest always stays."""
    ordered, index = scores.sort(dim=-1, descending=True)
    each = ordered.softmax(-1)
    likelier = each.cumsum(-1) - each  # probability of all tokens ahead in the order
    dropped = torch.zeros_like(likelier, dtype=torch.bool).scatter(-1, index, likelier >= top_p)
    return scores.masked_fill(dropped, float("-inf"))
