"""Collapse alarms on histories made by hand: each sounds for its own trouble and for no other."""

import pytest

from pipeline.training.alarms import find_alarms


def history(steps=60, every=20, **changes):
    """A healthy run: reward, length and accuracy rise, entropy falls by two thirds. `changes` replace a figure by a
    function of progress (0..1); `pass@1` and `format` are those of held-out evaluations."""
    figures = {
        "reward": lambda p: 0.4 + 1.2 * p,
        "entropy": lambda p: 0.3 - 0.2 * p,
        "zero_spread": lambda p: 0.2 * p,
        "completion_tokens": lambda p: 20 + 30 * p,
        "truncated": lambda p: 0.0,
        "pass@1": lambda p: 0.1 + 0.7 * p,
        "format": lambda p: min(1.0, 0.2 + 5 * p),
    } | changes
    held = {name: figures.pop(name) for name in ("pass@1", "format")}
    metrics = [{"step": s, **{n: f(s / steps) for n, f in figures.items()}} for s in range(1, steps + 1)]
    heldout = []
    for step in range(0, steps + 1, every):
        point = {name: f(step / steps) for name, f in held.items()}
        heldout.append({"step": step, **point, "low": point["pass@1"] - 0.05, "high": point["pass@1"] + 0.05})
    return metrics, heldout


def kinds(metrics, heldout):
    return [alarm.kind for alarm in find_alarms(metrics, heldout)]


def test_a_healthy_run_is_not_alarming_at_any_evaluation():
    metrics, heldout = history()
    for count in range(len(heldout) + 1):
        reached = heldout[count - 1]["step"] if count else 0
        assert kinds([row for row in metrics if row["step"] <= reached], heldout[:count]) == []


TROUBLES = {
    "entropy collapse": {"entropy": lambda p: 0.3 * (1 - p) ** 3, "zero_spread": lambda p: p},
    "length collapse": {"completion_tokens": lambda p: 50 - 40 * p, "pass@1": lambda p: 0.4 - 0.05 * p},
    "length explosion": {"truncated": lambda p: 0.8 * p, "pass@1": lambda p: 0.5 if p < 0.5 else 0.48},
    "reward up, held-out down": {"pass@1": lambda p: 0.8 - 0.4 * p},
    "gain in format only": {"pass@1": lambda p: 0.1 + 0.02 * p},
    "idle experts": {"idle_experts": lambda p: 4 * p, "max_violation": lambda p: 0.5 + p},
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_trouble_sounds_its_own_alarm_alone_with_its_figures(kind):
    metrics, heldout = history(**{"format": lambda p: 1.0} | TROUBLES[kind] if "format" not in kind else TROUBLES[kind])
    [alarm] = find_alarms(metrics, heldout)
    assert alarm.kind == kind
    assert alarm.step == 60
    assert alarm.figures["pass@1"] == heldout[-1]["pass@1"]
    assert any(character.isdigit() for character in alarm.message) and "{" not in alarm.message


@pytest.mark.parametrize(
    "changes",
    [
        {"entropy": lambda p: 0.3 * (1 - p) ** 3},  # certain, with groups that still differ
        {"completion_tokens": lambda p: 50 - 40 * p},  # shorter and better
        {"truncated": lambda p: 0.8 * p},  # longer and better
        {"pass@1": lambda p: 0.8 - 0.05 * p, "format": lambda p: 1.0},  # lower within the interval
        {
            "pass@1": lambda p: 0.8 - 0.4 * p,
            "reward": lambda p: 1 - 0.1 * p,
            "format": lambda p: 1.0,
        },  # reward falls too
        {"pass@1": lambda p: 0.1 + (0.5 if p > 0.9 else 0.0)},  # format first, then accuracy
        {
            "entropy": lambda p: 0.3 * (1 - p) ** 3,
            "zero_spread": lambda p: 1.0,
            "teacher_kl": lambda p: 0.1,
        },  # certain, and taught token by token, without rewards
    ],
)
def test_the_same_sign_with_a_good_reason_is_no_alarm(changes):
    assert kinds(*history(**changes)) == []


def test_figures_that_are_missing_or_not_finite_are_passed_over():
    metrics, heldout = history()
    for row in metrics[::2]:
        row["entropy"] = row["reward"] = None
    assert kinds(metrics, heldout) == []
