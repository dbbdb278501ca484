"""Detect that RL goes wrong from the history of a run: pure functions over `metrics.jsonl` and `heldout.jsonl`.

Each compares the run with its own earlier figures, since what is low or long depends on the model and the task, and
with held-out accuracy: entropy or length may fall, and a reward rise, for good reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 10
"""Steps over which a figure of training is averaged."""
ENTROPY_SHARE = 0.1
"""Collapsed: entropy below this share of the first steps' …"""
FLAT_GROUPS = 0.5
"""… and at least this share of groups with equal rewards, from which nothing can be learned."""
SHORTER = 0.5
"""Collapsed: answers below this share of their greatest length so far."""
TRUNCATED = 0.25
"""Exploded: this share of answers is cut at the limit, and that much more than at first."""
FORMAT_GAIN = 0.2
"""A gain in format: at least this much more of the answers are well-formed than at first."""

IDLE_EXPERTS = 1
"""Experts of all layers, on average, that have hardly anything to do: more is alarming where it was less at first."""


@dataclass(frozen=True)
class Alarm:
    kind: str
    step: int
    message: str
    figures: dict[str, float]


def find_alarms(metrics: Sequence[dict], heldout: Sequence[dict]) -> list[Alarm]:
    """Alarms at the last held-out evaluation; none before there are two of them."""
    if len(heldout) < 2 or len(metrics) < 2:
        return []
    checks = (
        entropy_collapse, length_collapse, length_explosion, reward_without_accuracy, format_only, experts_fell_idle,
    )  # fmt: skip
    return [alarm for check in checks if (alarm := check(metrics, heldout)) is not None]


def entropy_collapse(metrics: Sequence[dict], heldout: Sequence[dict]) -> Alarm | None:
    """The policy has become certain, and most groups give no gradient."""
    first, now = _first(metrics, "entropy"), _mean(metrics[-WINDOW:], "entropy")
    flat = _mean(metrics[-WINDOW:], "zero_spread")
    if metrics and "teacher_kl" in metrics[-1]:  # a teacher trains groups of equal rewards too
        return None
    if first is None or now is None or flat is None or now >= ENTROPY_SHARE * first or flat < FLAT_GROUPS:
        return None
    return _alarm(
        "entropy collapse", heldout, {"entropy_first": first, "entropy": now, "zero_spread": flat},
        "entropy fell from {entropy_first:.3g} to {entropy:.3g}, and {zero_spread:.0%} of groups have equal rewards. "
        "Raise the temperature or the share of hard questions, lower the learning rate, or use dynamic_sampling",
    )  # fmt: skip


def length_collapse(metrics: Sequence[dict], heldout: Sequence[dict]) -> Alarm | None:
    """Answers have become much shorter than they once were, and no better."""
    ends = range(min(WINDOW, len(metrics)), len(metrics) + 1)
    end = max(ends, key=lambda end: _mean(metrics[max(0, end - WINDOW) : end], "completion_tokens") or 0.0)
    longest = _mean(metrics[max(0, end - WINDOW) : end], "completion_tokens")
    now = _mean(metrics[-WINDOW:], "completion_tokens")
    if longest is None or now is None or now >= SHORTER * longest:
        return None
    step = metrics[end - 1]["step"]
    then = [point for point in heldout if point["step"] <= step][-1:] or heldout[:1]
    if heldout[-1]["pass@1"] > then[0]["pass@1"]:
        return None
    return _alarm(
        "length collapse", heldout,
        {"tokens_longest": longest, "at_step": step, "tokens": now, "pass@1_then": then[0]["pass@1"]},
        "answers fell from {tokens_longest:.0f} tokens at step {at_step} to {tokens:.0f}, with pass@1 {now:.1%} after "
        "{pass@1_then:.1%}. Look at the rollouts for answers without reasoning, and at rewards that favour them",
    )  # fmt: skip


def length_explosion(metrics: Sequence[dict], heldout: Sequence[dict]) -> Alarm | None:
    """More and more answers run into the limit, and accuracy does not rise with them."""
    first, now = _first(metrics, "truncated"), _mean(metrics[-WINDOW:], "truncated")
    before = heldout[-2]["pass@1"]
    if first is None or now is None or now < first + TRUNCATED or heldout[-1]["pass@1"] > before:
        return None
    tokens = _mean(metrics[-WINDOW:], "completion_tokens")
    return _alarm(
        "length explosion", heldout,
        {"truncated_first": first, "truncated": now, "tokens": tokens, "pass@1_before": before},
        "{truncated:.0%} of answers are cut at the limit, at first {truncated_first:.0%}; pass@1 {now:.1%} after "
        "{pass@1_before:.1%}. Raise max_completion_tokens, or look at the rollouts for repetition",
    )  # fmt: skip


def reward_without_accuracy(metrics: Sequence[dict], heldout: Sequence[dict]) -> Alarm | None:
    """Training reward has risen since the best held-out accuracy, which is surely lost (95 % intervals apart)."""
    best, last = max(heldout, key=lambda point: point["pass@1"]), heldout[-1]
    if last["high"] >= best["low"]:
        return None
    then = _mean([row for row in metrics if row["step"] <= best["step"]][-WINDOW:] or metrics[:1], "reward")
    now = _mean(metrics[-WINDOW:], "reward")
    if then is None or now is None or now <= then:
        return None
    return _alarm(
        "reward up, held-out down", heldout,
        {"reward_then": then, "reward": now, "best": best["pass@1"], "at_step": best["step"]},
        "the reward rose from {reward_then:.3g} to {reward:.3g} since step {at_step}, while held-out pass@1 fell from "
        "{best:.1%} to {now:.1%}. Look at the answers of highest reward: one of the rewards may be gamed",
    )  # fmt: skip


def format_only(metrics: Sequence[dict], heldout: Sequence[dict]) -> Alarm | None:
    """Answers have been well-formed for two evaluations in a row, and accuracy is not surely above the first."""
    first = heldout[0]
    late = heldout[1:][-2:]
    learned = [point["format"] >= first["format"] + FORMAT_GAIN and point["low"] <= first["pass@1"] for point in late]
    if len(late) < 2 or not all(learned):
        return None
    gain = (_mean(metrics[-WINDOW:], "reward") or 0.0) - (_first(metrics, "reward") or 0.0)
    return _alarm(
        "gain in format only", heldout,
        {"format_first": first["format"], "format": late[-1]["format"], "first": first["pass@1"], "reward_gain": gain},
        "well-formed answers rose from {format_first:.0%} to {format:.0%} and the reward by {reward_gain:.2g}, while "
        "held-out pass@1 went from {first:.1%} to {now:.1%}. The format alone earns the reward: lower its weight, or "
        "give easier questions",
    )  # fmt: skip


def experts_fell_idle(metrics: Sequence[dict], heldout: Sequence[dict]) -> Alarm | None:
    """More experts get next to no tokens than at first."""
    first, now = _first(metrics, "idle_experts"), _mean(metrics[-WINDOW:], "idle_experts")
    if first is None or now is None or now < max(IDLE_EXPERTS, first + 0.5):
        return None
    violation = _mean(metrics[-WINDOW:], "max_violation")
    return _alarm(
        "idle experts", heldout, {"idle_first": first, "idle": now, "max_violation": violation},
        "{idle:.1f} experts get under a tenth of the mean load of their layer, at first {idle_first:.1f}; the most "
        "loaded is {max_violation:.0%} above it, with pass@1 {now:.1%}. Set or raise grpo.balance.bias_rate, or lower "
        "the learning rate",
    )  # fmt: skip


def _first(metrics: Sequence[dict], name: str) -> float | None:
    """The mean over the first steps, at most half of those there are."""
    return _mean(metrics[: max(1, min(WINDOW, len(metrics) // 2))], name)


def _mean(rows: Sequence[dict], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else None


def _alarm(kind: str, heldout: Sequence[dict], figures: dict[str, float], text: str) -> Alarm:
    last = heldout[-1]
    return Alarm(kind, last["step"], text.format(now=last["pass@1"], **figures), {**figures, "pass@1": last["pass@1"]})
