"""From what a command was given to a profile and the folder of its run: every command goes this way."""

import os
import sys
from collections.abc import Sequence

from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.core.ranks import process_rank
from pipeline.runs.folder import RunFolder


def load_run(
    profile_name: str, overrides: Sequence[str] = (), seed: int | None = None, run_name: str = ""
) -> tuple[Profile, RunFolder]:
    """The profile, and the folder of its run: `run_name`, or by default the profile's name, and its seed where one is
    given.

    Says what a more specific level of the profile replaced. Call it before torch is imported: with `device: cpu` it
    hides the GPUs from the libraries, which take one wherever they see it.
    """
    loaded = load_profile(profile_name, overrides, seed)
    profile = loaded.profile
    if process_rank() == 0:
        for note in loaded.notes:
            print(f"note: {note}", file=sys.stderr)
    if profile.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    default = profile.name if seed is None else f"{profile.name}-seed{seed}"
    return profile, RunFolder(run_name or default, profile.name, str(loaded.path))
