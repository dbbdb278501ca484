"""Whether a run's finished stages are still what their manifests say, and what has moved on since they were made.

    make verify RUN=pocket

Damage is a file that is not what was written, and fails. Drift is not damage: the stage is whole, but the code, the
packages, the profile or an input is another one now than when it was made.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.profile import Profile
from pipeline.core.errors import LadderError
from pipeline.core.files import hash_file, hash_json
from pipeline.core.manifest import MANIFEST, Manifest
from pipeline.core.versions import code_version, commit_in_words, package_versions
from pipeline.ladder import LADDER, StageDefinition
from pipeline.runs.folder import RunFolder
from pipeline.runs.identity import resolved_config
from pipeline.runs.runner import changed_keys

SHOWN_DRIFT = 12
"""Differences of one kind that are listed for a stage before the rest are only counted."""


@dataclass
class StageCheck:
    """What was found about one finished stage."""

    files: int = 0
    damage: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


def verify_run(run: RunFolder, profile: Profile | None, say: Callable[[str], None] = print) -> int:
    """Says of each stage what does not match; returns 0 where every file is as it was written, else 1.

    The stages' configurations are compared with `profile` (None: not compared).
    """
    found: dict[str, StageCheck] = {}
    for stage in LADDER:
        if not run.stage(stage.id).is_dir():
            say(f"{stage.id}: not finished")
            continue
        found[stage.id] = check = check_stage(run, stage, profile)
        say(f"{stage.id}: {f'{len(check.damage)} DAMAGED' if check.damage else 'intact'}, {check.files} files")
        for line in check.damage:
            say(f"  damage: {line}")
        for line in check.drift:
            say(f"  drift: {line}")
    damaged = [name for name, check in found.items() if check.damage]
    drifted = sum(bool(check.drift) for check in found.values())
    files = sum(check.files for check in found.values())
    say(f"{run.path}: {len(found)} finished stages, {files} files, {drifted} stages with drift")
    if not damaged:
        say("Every file is what its manifest says.")
        return 0
    say(
        f"Damaged: {', '.join(damaged)}. Put the files back, or move the stage's folder away and run the stage again: "
        "it is made anew from what it was made of."
    )
    return 1


def check_stage(run: RunFolder, stage: StageDefinition, profile: Profile | None) -> StageCheck:
    """Hashes every file of a finished stage and holds them, and what it was made with, against its manifest."""
    folder, check = run.stage(stage.id), StageCheck()
    try:
        manifest = Manifest.read(folder)
    except LadderError as error:
        check.damage.append(str(error))
        return check
    if manifest is None:
        check.damage.append(f"{MANIFEST} is missing, so nothing says what the other files should be")
        return check
    check.damage += _file_damage(folder, manifest, check)
    if manifest.config_hash != hash_json(manifest.config):
        check.damage.append(f"{MANIFEST}: config_hash is not the hash of config")
    check.drift += _code_drift(manifest) + _input_drift(run, manifest)
    if profile is not None:
        check.drift += _config_drift(profile, stage, manifest)
    return check


def _file_damage(folder: Path, manifest: Manifest, check: StageCheck) -> list[str]:
    expected = {**manifest.outputs, **manifest.records}
    there = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    there.pop(MANIFEST, None)
    check.files = len(there)
    damage = [f"{name} is missing" for name in sorted(expected.keys() - there.keys())]
    damage += [f"{name} was added" for name in sorted(there.keys() - expected.keys())]
    for name in sorted(there.keys() & expected.keys()):
        found = hash_file(there[name])
        if found != expected[name]:
            damage.append(f"{name} was changed: SHA-256 {found[:12]}…, written as {expected[name][:12]}…")
    return damage


def _code_drift(manifest: Manifest) -> list[str]:
    drift, now = [], code_version()
    made, here = (commit_in_words(code, 12) for code in (manifest.code, now))
    if made != here:
        drift.append(f"code: made by {made}, now {here}")
    packages = package_versions()
    for name in sorted({*manifest.packages, *packages}):
        was, here = manifest.packages.get(name, "none"), packages.get(name, "none")
        if was != here:
            drift.append(f"package {name}: made with {was}, now {here}")
    return drift


def _input_drift(run: RunFolder, manifest: Manifest) -> list[str]:
    drift = []
    for read, identity in manifest.inputs.items():
        name, _, output = read.partition("/")
        try:
            maker = Manifest.read(run.stage(name))
        except LadderError:
            continue  # reported as damage of that stage
        if maker is None:
            drift.append(f"input {read} is not there any more")
        elif maker.identity(output) != identity:
            drift.append(f"input {read} was made again since, with another result")
    return drift


def _config_drift(profile: Profile, stage: StageDefinition, manifest: Manifest) -> list[str]:
    config = resolved_config(profile, stage)
    if hash_json(config) == manifest.config_hash:
        return []
    differences = changed_keys(manifest.config, config)
    more = [f"configuration: {len(differences) - SHOWN_DRIFT} more"] if len(differences) > SHOWN_DRIFT else []
    return [f"configuration: {difference}" for difference in differences[:SHOWN_DRIFT]] + more
