"""How long the stages that are left will take, before and while they run.

Expected are the seconds that a stage took in this run before it was changed, else in the newest other run of the
profile here, else what the profile says (`takes_s`). As stages end, the rest is scaled by how much longer they took.
"""

from collections.abc import Collection

from pipeline.config.profile import Profile
from pipeline.core.manifest import MANIFEST, Manifest
from pipeline.ladder import STAGES, StageDefinition
from pipeline.runs.folder import RunFolder

LEAST_SECONDS = 5.0
"""What a stage must have been expected to take for its pace to say something of the machine."""


class Forecast:
    def __init__(self, profile: Profile, run: RunFolder):
        self._expected = {**profile.takes_s, **_taken(profile, run)}
        self._took = self._meant = 0.0

    def ended(self, stage: StageDefinition, seconds: float) -> None:
        expected = self._expected.get(stage.id, 0.0)
        if expected >= LEAST_SECONDS:
            self._took, self._meant = self._took + seconds, self._meant + expected

    def seconds(self, stages: Collection[StageDefinition]) -> float | None:
        """For all of these; None where nothing is known of one of them."""
        if not stages or any(stage.id not in self._expected for stage in stages):
            return None
        pace = self._took / self._meant if self._meant else 1.0
        return pace * sum(self._expected[stage.id] for stage in stages)


def _taken(profile: Profile, run: RunFolder) -> dict[str, float]:
    """Stage -> seconds, of the newest finished one in a run of this profile; of this run where it has one."""
    found: dict[str, tuple[tuple[bool, float], float]] = {}
    for path in run.path.parent.glob(f"*/*/{MANIFEST}"):
        stage, here = path.parent.name, path.parents[1] == run.path
        if stage not in STAGES:
            continue
        manifest = Manifest.read(path.parent)
        if manifest is not None and manifest.profile == profile.name:
            rank = (here, path.stat().st_mtime)
            found[stage] = max(found.get(stage, (rank, manifest.wall_seconds)), (rank, manifest.wall_seconds))
    return {stage: seconds for stage, (_, seconds) in found.items()}
