"""The loss of GRPO and its published variants, as functions of tensors.

    inputs = LossInputs(logprobs, advantages, mask)
    loss, figures = policy_loss(inputs, GRPOSettings(beta=0.0))

A loss is built in four steps: the ratio of the policy to the one that wrote the completions (`importance_ratio`), a
term for each token (`POLICY_TERMS`, or a function of the user's own), the sampler's correction and the KL term, and
their average (`AVERAGES`). DeepSeek-R1's is `loss_type: grpo`: arXiv 2501.12948v2, equations 1 and 2.

Stock TRL 1.16 gives the same losses and gradients (tests/pipeline/training/grpo/test_exact.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.config.grpo import GRPOSettings

SAPO_TEMPERATURES = (1.0, 1.05)
"""Of positive advantages and of the others (arXiv 2511.20347)."""


@dataclass(frozen=True)
class LossInputs:
    """What the loss reads of a micro-batch: log-probabilities of completion tokens, each (rows, tokens)."""

    logprobs: Tensor
    """Under the policy that is trained, with its gradient."""
    advantages: Tensor
    """(rows,), or (rows, tokens) where each token has its own."""
    mask: Tensor
    """1 where a token counts, 0 for padding and masked completions."""
    old: Tensor | None = None
    """Under the policy at the time of the rollout. None: the step is on-policy, so they are those of `logprobs`."""
    sampled: Tensor | None = None
    """As the rollout engine reported them, for the sampler's correction. NaN: not reported. None: no correction."""
    reference: Tensor | None = None
    """Under the reference model. Needed where `beta` is not 0."""
    entropies: Tensor | None = None
    """Entropy of the policy at each position; a figure only, no part of the loss."""
    teacher: Tensor | None = None
    """Under the teacher, whose reverse KL is added to the advantages (`with_teacher`). None: there is no teacher."""
    teacher_weight: float = 1.0


@dataclass(frozen=True)
class BatchSize:
    """What one optimizer step of this process trains on, micro-batches together: averages divide by it."""

    rows: float
    tokens: float
    """Completion tokens that count (`bnpo`)."""
    shared_tokens: float
    """Such tokens of all processes, divided by the number of processes (`dapo`, `cispo`)."""
    longest: int
    """The limit of a completion's tokens (`dr_grpo`)."""

    @classmethod
    def of(cls, mask: Tensor) -> "BatchSize":
        """Of a micro-batch that is the whole batch."""
        tokens = mask.sum().item()
        return cls(len(mask), tokens, tokens, mask.shape[1])


PolicyTerm = Callable[[LossInputs, Tensor, GRPOSettings], tuple[Tensor, dict[str, Tensor]]]
"""(inputs, ratio, settings) → the loss of each token, (rows, tokens) or (rows, 1), and figures to record. `ratio` is
(rows, tokens), or (rows, 1) where `importance_sampling_level` is `sequence`; gradients flow through it. A figure has
the ratio's shape or is a scalar."""


# ---- Ratios ---------------------------------------------------------------------------------------------------------


def importance_ratio(inputs: LossInputs, level: str) -> Tensor:
    """π(token) / π_old(token), (rows, tokens); at level `sequence` its geometric mean over a completion, (rows, 1).

    GRPO: arXiv 2402.03300, equation 3. GSPO: arXiv 2507.18071, equation 7.
    """
    difference = inputs.logprobs - _old(inputs)
    if level == "sequence":
        length = inputs.mask.sum(-1, keepdim=True).clamp(min=1.0)
        difference = (difference * inputs.mask).sum(-1, keepdim=True) / length
    return torch.exp(difference)


def sampler_ratio(inputs: LossInputs, mode: str, limit: float) -> Tensor:
    """π_old / π_sampler, bounded: corrects for an engine whose arithmetic differs from the trainer's. No gradient.

    `mode` is `token` or `sequence`, then `_truncate` (a larger ratio becomes `limit`) or `_mask` (it becomes 0).
    Truncated importance sampling: https://fengyao.notion.site/off-policy-rl. Tokens without a reported
    log-probability have ratio 1.
    """
    difference = torch.nan_to_num(sampler_difference(inputs), nan=0.0)
    if mode.startswith("sequence"):
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = torch.exp(difference)
    return ratio.clamp(max=limit) if mode.endswith("truncate") else ratio.masked_fill(ratio > limit, 0.0)


def sampler_difference(inputs: LossInputs) -> Tensor:
    """Log-probability of each token under the trainer's policy minus that which the engine reported."""
    return (_old(inputs) - inputs.sampled) * inputs.mask


def _old(inputs: LossInputs) -> Tensor:
    return inputs.logprobs.detach() if inputs.old is None else inputs.old


# ---- Advantages of each token ---------------------------------------------------------------------------------------


def with_teacher(inputs: LossInputs) -> tuple[LossInputs, Tensor]:
    """On-policy distillation: A + weight · (log π_teacher - log π_old) as the advantage of each token.

    The difference, negated, is KL(π ‖ π_teacher) at the token by one sample of π, so that minus the advantages' mean is
    the reverse KL that is minimised: no reward is needed, and no token waits for the end of its completion (MiniLLM,
    arXiv 2306.08543; GKD, arXiv 2306.13649; Qwen3, arXiv 2505.09388, 4.5). Also gives the difference of each token.
    """
    kl = (_old(inputs) - inputs.teacher).detach()
    return replace(inputs, advantages=_by_token(inputs.advantages) - inputs.teacher_weight * kl), kl


def _by_token(advantages: Tensor) -> Tensor:
    """(rows, tokens), or (rows, 1) where all tokens of a row have the same."""
    return advantages if advantages.dim() == 2 else advantages.unsqueeze(1)


# ---- The term of each token -----------------------------------------------------------------------------------------


def clipped_term(inputs: LossInputs, ratio: Tensor, settings: GRPOSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """-min(ratio · A, clip(ratio, 1 - ε, 1 + ε_high) · A): PPO's, which GRPO, Dr. GRPO, DAPO and GSPO share.

    They differ in how tokens are averaged and in the level of the ratio. DAPO's ε_high ("clip-higher") is larger.
    """
    low, high = 1 - settings.epsilon, 1 + _epsilon_high(settings)
    advantages = _by_token(inputs.advantages)
    term = -torch.min(ratio * advantages, ratio.clamp(low, high) * advantages)
    clipped_low, clipped_high = (ratio < low) & (advantages < 0), (ratio > high) & (advantages > 0)
    return term, {
        "clip_ratio/low_mean": clipped_low.float(),
        "clip_ratio/high_mean": clipped_high.float(),
        "clip_ratio/region_mean": (clipped_low | clipped_high).float(),
    }


def cispo_term(inputs: LossInputs, ratio: Tensor, settings: GRPOSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """-sg(min(ratio, ε_high)) · A · log π: clipped tokens keep a gradient (CISPO, arXiv 2506.13585, equation 4)."""
    highest, advantages = _epsilon_high(settings), _by_token(inputs.advantages)
    term = -ratio.clamp(max=highest).detach() * advantages * inputs.logprobs
    return term, {"cispo_clip_ratio": ((ratio > highest) & (advantages > 0)).float()}


def sapo_term(inputs: LossInputs, ratio: Tensor, settings: GRPOSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """-4 σ(τ (ratio - 1)) / τ · A: a soft gate in place of the clip (SAPO, arXiv 2511.20347)."""
    advantages, (positive, other) = _by_token(inputs.advantages), SAPO_TEMPERATURES
    temperature = torch.where(advantages > 0, positive, other)
    return -torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature * advantages, {}


POLICY_TERMS: dict[str, PolicyTerm] = {
    "grpo": clipped_term,
    "dr_grpo": clipped_term,
    "bnpo": clipped_term,
    "dapo": clipped_term,
    "luspo": clipped_term,
    "cispo": cispo_term,
    "sapo": sapo_term,
}
"""By `loss_type`."""


def _epsilon_high(settings: GRPOSettings) -> float:
    return settings.epsilon if settings.epsilon_high is None else settings.epsilon_high


# ---- KL -------------------------------------------------------------------------------------------------------------


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """KL(policy ‖ reference) of each token by one sample (http://joschu.net/blog/kl-approx.html).

    With d = log π_ref - log π: `k1` is -d, `k2` d²/2, `k3` exp(d) - d - 1 (GRPO, arXiv 2402.03300, equation 4).
    """
    difference = reference - logprobs
    if estimator == "k1":
        return -difference
    return difference.square() / 2 if estimator == "k2" else torch.exp(difference) - difference - 1


# ---- Averages -------------------------------------------------------------------------------------------------------


def _over_completions(summed: Tensor, lengths: Tensor, size: BatchSize) -> Tensor:
    return (summed / lengths.clamp(min=1.0)).sum() / size.rows


AVERAGES: dict[str, Callable[[Tensor, Tensor, BatchSize], Tensor]] = {
    "grpo": _over_completions,
    "sapo": _over_completions,
    "luspo": lambda summed, lengths, size: summed.sum() / size.rows,
    "dr_grpo": lambda summed, lengths, size: summed.sum() / (size.rows * size.longest),
    "bnpo": lambda summed, lengths, size: summed.sum() / max(1.0, size.tokens),
    "dapo": lambda summed, lengths, size: summed.sum() / size.shared_tokens,
    "cispo": lambda summed, lengths, size: summed.sum() / size.shared_tokens,
}
"""By `loss_type`: (sum over each completion's tokens, (rows,); their number, (rows,); size) → a scalar.

GRPO: mean over a completion, then over completions. Dr. GRPO (arXiv 2503.20783): by a constant length, so that long
wrong answers are not favoured. DAPO (arXiv 2503.14476): every token of the batch weighs the same."""


def average(per_token: Tensor, mask: Tensor, loss_type: str, size: BatchSize) -> Tensor:
    """This micro-batch's share of the mean over the whole batch; over all micro-batches the shares add up to it."""
    return AVERAGES[loss_type]((per_token * mask).sum(-1), mask.sum(-1), size)


# ---- All of it ------------------------------------------------------------------------------------------------------


def policy_loss(
    inputs: LossInputs, settings: GRPOSettings, size: BatchSize | None = None, term: PolicyTerm | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a micro-batch and figures about it.

    Args:
        size: what to average over. None: the micro-batch is the whole batch.
        term: a loss of each token in place of `settings.loss_type`'s, which then says how to average.

    Returns: the loss, a scalar with gradient; figures, scalars without: means over the micro-batch's tokens.

    Raises ValueError where `settings.beta` is not 0 and `inputs.reference` is None, or `term` gives a wrong shape.
    """
    mask, found = inputs.mask, {}
    if inputs.teacher is not None:
        inputs, found["teacher_kl"] = with_teacher(inputs)
    ratio = importance_ratio(inputs, settings.importance_sampling_level)
    per_token, figures = (term or POLICY_TERMS[settings.loss_type])(inputs, ratio, settings)
    figures = figures | found
    if per_token.shape not in (mask.shape, (len(mask), 1)):
        raise ValueError(
            f"the loss function gave a tensor of {tuple(per_token.shape)}; expected one value a token, "
            f"{tuple(mask.shape)}, or one a row, {(len(mask), 1)}"
        )
    if inputs.sampled is not None and settings.sampler_correction is not None:
        per_token = per_token * sampler_ratio(inputs, settings.sampler_correction, settings.sampler_correction_max)
    if settings.beta != 0:
        if inputs.reference is None:
            raise ValueError(
                f"beta={settings.beta} needs the reference's log-probabilities; give `reference`, or beta 0"
            )
        kl = kl_estimate(inputs.logprobs, inputs.reference, settings.kl_estimator)
        kl = kl * ratio if settings.kl_importance_weighted else kl
        per_token, figures = per_token + settings.beta * kl, figures | {"kl": kl}
    if inputs.entropies is not None:
        figures = figures | {"entropy": inputs.entropies}
    loss = average(per_token, mask, settings.loss_type, size or BatchSize.of(mask))
    return loss, {name: _mean(value.detach(), mask) for name, value in figures.items()}


def _mean(figure: Tensor, mask: Tensor) -> Tensor:
    if figure.dim() < 2:
        return figure.float().mean()
    if figure.shape[1] == 1:  # one value a row
        return figure.mean()
    return (figure * mask).sum() / mask.sum().clamp(min=1.0)
