"""From what a command was given to a profile and the folder of its run: every command goes this way."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError
from pipeline.core.ranks import process_rank
from pipeline.runs.bounds import overrides as as_overrides
from pipeline.runs.budget import Budget, Measured, parse_duration, read_record
from pipeline.runs.folder import RunFolder


def load_run(
    profile_name: str, overrides: Sequence[str] = (), seed: int | None = None, run_name: str = ""
) -> tuple[Profile, RunFolder]:
    """The profile, and the folder of its run: `run_name`, or by default the profile's name, and its seed where one is
    given. Sizes that a budget chose for the run come before `overrides`.

    Says what a more specific level of the profile replaced. Call it before torch is imported: with `device: cpu` it
    hides the GPUs from the libraries, which take one wherever they see it.
    """
    loaded = load_profile(profile_name, overrides, seed)
    default = loaded.profile.name if seed is None else f"{loaded.profile.name}-seed{seed}"
    run = RunFolder(run_name or default, loaded.profile.name, str(loaded.path))
    chosen = sizes_chosen(run)
    profile = load_profile(profile_name, [*chosen, *overrides], seed).profile if chosen else loaded.profile
    if process_rank() == 0:
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
    if profile.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return profile, run


def sizes_chosen(run: RunFolder) -> list[str]:
    """The sizes that a budget has chosen for the run so far, as overrides; none where it has no budget."""
    record = read_record(run.path)
    return as_overrides(record.chosen) if record else []


def profile_of(run: RunFolder, profile_name: str | None, overrides: Sequence[str], seed: int | None) -> Profile:
    """The profile that a run is compared with (default: the one that made it), with the sizes that a budget chose."""
    return load_profile(profile_name or run.profile_file, [*sizes_chosen(run), *overrides], seed).profile


def open_budget(
    given: str, stage: str, profile_name: str, set_by_user: Sequence[str], seed: int | None, run: RunFolder
) -> Budget | None:
    """The budget of a run: of the time `given` (BUDGET), else as the run's folder has it; None without either.

    It does not choose keys that are `set_by_user` (SET). Raises ConfigError for a budget of anything but `all` stages.
    """
    if given and stage != "all":
        raise ConfigError(f"BUDGET={given}: a budget is for the whole ladder. Give it to `make all`.")
    if not given and read_record(run.path) is None:
        return None

    def reload(chosen: Sequence[str]) -> Profile:
        return load_profile(profile_name, [*chosen, *set_by_user], seed).profile

    keys = [word.partition("=")[0].strip() for word in set_by_user]
    return Budget(run.path, reload, _measure, parse_duration(given) if given else None, fixed=keys)


def _measure(*arguments: Any) -> Measured:
    """Loads the trainer only when it is needed."""
    return importlib.import_module("pipeline.runs.measuring").measure(*arguments)
