"""Whether a profile's trainings fit the memory they are meant for, and the smallest change of the profile that fits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.checks.models import estimates
from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.config.stages import RewardModelStage, RLStage, SFTStage
from pipeline.models.memory import intended_device

Reload = Callable[[Mapping[str, Any]], Profile]
"""The profile with some keys (dotted) set to other values."""
LORA = {"lora": {"rank": 64, "alpha": 128}}
QLORA = {"lora": {"rank": 64, "alpha": 128, "quantize": "nf4"}}
"""Adapters in every stage; on a base in four bits."""


def overfull(profile: Profile, processes: int = 1) -> list[str]:
    """`model stage` of each training whose estimate is more than its device holds; one whose size is not known is not
    among them."""
    device = intended_device(profile, processes)
    return [
        f"{role} {stage}"
        for role, stage, _, estimate in estimates(profile, device)
        if estimate and estimate.total > device.size
    ]


def smallest_change(profile: Profile, reload: Reload, processes: int = 1) -> dict[str, Any] | None:
    """Keys and values with which every training fits: {} where all do, None where none of the changes is enough.

    Tried in this order: smaller passes, which cost nothing but speed; adapters; both; both on a quantised base.
    """
    if not overfull(profile, processes):
        return {}
    passes = smaller_passes(profile)
    for change in (passes, LORA, passes | LORA, passes | QLORA):
        if change and not overfull(reload(change), processes):
            return change
    return None


def smaller_passes(profile: Profile) -> dict[str, Any]:
    """The same batches, one row or one completion a forward pass, with activations computed anew."""
    found: dict[str, Any] = {}
    for name, section in profile.stages.of(RLStage).items():
        grpo, key = section.grpo, f"stages.{name}.grpo"
        if grpo.max_tokens_per_microbatch > grpo.longest_completion:
            found[f"{key}.max_tokens_per_microbatch"] = grpo.longest_completion
        if not grpo.gradient_checkpointing:
            found[f"{key}.gradient_checkpointing"] = True
    for name, section in profile.stages.of(SFTStage).items():
        if section.sft.rows_per_device > 1:
            found[f"stages.{name}.sft.rows_per_device"] = 1
    for name, section in profile.stages.of(RewardModelStage).items():
        if section.pairs_per_device > 1:
            found[f"stages.{name}.pairs_per_device"] = 1
    return found


def reloading(name: str, overrides: Sequence[str] = (), seed: int | None = None) -> Reload:
    """Loads the profile of that name with further keys set."""
    return lambda change: load_profile(name, [*overrides, *as_overrides(change)], seed).profile


def memory_verdict(profile: Profile, reload: Reload, processes: int = 1) -> str:
    """One line on all trainings, with the change that fits where some do not."""
    device, full = intended_device(profile, processes), overfull(profile, processes)
    known = [estimate for *_, estimate in estimates(profile, device) if estimate]
    if not full:
        return f"Memory: every training whose size is known ({len(known)}) fits {device}, by estimate."
    said = f"Memory: {len(full)} of {len(known)} trainings need more than {device}, by estimate ({', '.join(full)})."
    change = smallest_change(profile, reload, processes)
    if change is None:
        return (
            f"{said} Smaller passes and adapters on a quantised base are not enough: take a smaller model, shorter "
            "completions or larger GPUs."
        )
    return f"{said} The smallest change that fits: {in_words(change)}."


def in_words(change: Mapping[str, Any]) -> str:
    """A change as keys of a profile."""
    return ", ".join(f"{key}: {_value(value)}" for key, value in change.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_overrides(change: Mapping[str, Any]) -> list[str]:
    """A change as `KEY=VALUE` strings of SET."""
    return [f"{key}={_value(value)}" for key, value in change.items()]
