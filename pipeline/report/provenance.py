"""Where every figure comes from: code, versions, seeds, hashes, configurations, and the commands to make it again."""

from typing import Any

import yaml

from pipeline.core.versions import commit_in_words
from pipeline.report.records import RunRecord


def provenance(run: RunRecord) -> dict[str, Any]:
    """Each finished stage's manifest, what all share only once, and the whole profile as YAML."""
    manifests = [stage.manifest for stage in run.stages.values() if stage.manifest]
    commits = sorted({commit_in_words(manifest.code) for manifest in manifests})
    packages: dict[str, list[str]] = {}
    for manifest in manifests:
        for name, version in manifest.packages.items():
            if version not in packages.setdefault(name, []):
                packages[name].append(version)
    return {
        "commits": commits,
        "packages": packages,
        "devices": sorted({manifest.devices for manifest in manifests}),
        "seconds": sum(manifest.wall_seconds for manifest in manifests),
        "stages": manifests,
        "profile": yaml.safe_dump(run.profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "commands": _commands(run, manifests),
    }


def _commands(run: RunRecord, manifests: list) -> list[str]:
    commits = {manifest.code["commit"] for manifest in manifests if manifest.code["commit"]}
    checkout = [f"git checkout {commits.pop()}"] if len(commits) == 1 else []
    name = f"{run.name}-again"
    return [*checkout, "make setup", f"make all PROFILE=reproduce.yaml RUN={name}  # the profile below, in that file"]
