"""The model card of an exported checkpoint: what it is made of, how it was measured, and what made it."""

import json
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.config.profile import Profile
from pipeline.core.files import hash_file
from pipeline.core.manifest import Manifest
from pipeline.export.older_transformers import needed_version
from pipeline.ladder import EVALUATE, STAGES, Rung, needed_for, of_kind
from pipeline.runs.checkpoints import origin_of, stage_and_student
from pipeline.runs.folder import RunFolder

ADAPTER_CONFIG = "adapter_config.json"


def model_card(profile: Profile, run: RunFolder, name: str, checkpoint: Path, folder: Path) -> str:
    """The README of a checkpoint that is exported to `folder`.

    `name` is a stage or `stage/student`, or a path outside the run, of whose base and data nothing is known.
    """
    stage_id, _ = stage_and_student(name)
    stage, origin = STAGES.get(stage_id), origin_of(profile, run, name)
    base = origin.base if origin else ""
    before = needed_for(stage) if stage else []
    manifests = {one.id: manifest for one in before if (manifest := Manifest.read(run.stage(one.id)))}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template("model_card.md.jinja").render(
        name=name,
        profile=profile,
        base=base,
        hub_base=base.rpartition("hub:")[2] if "hub:" in base else None,
        stage=stage,
        manifests=manifests,
        rows_from={one.id: manifests[one.id].metrics for one in of_kind("rows") if one.id in manifests},
        licence=_licence(base, checkpoint),
        questions=_questions(manifests),
        made_by=manifests.get(stage_id),
        figures=_figures(run, Rung(stage, origin.student).name if origin else ""),
        measured_earlier=not _measured_now(run, stage_id, manifests.get(stage_id)),
        gguf=any(folder.glob("*.gguf")),
        adapted=_adapted(folder),
        needs=needed_version(folder),
        files={file.name: hash_file(file) for kind in ("gguf", "safetensors") for file in _files(folder, kind)},
    )


def _adapted(folder: Path) -> str | None:
    """The model that a folder of adapters belongs to; None where it holds none."""
    path = folder / ADAPTER_CONFIG
    return json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"] if path.is_file() else None


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"*.{kind}"))


def _licence(base: str, checkpoint: Path) -> str:
    """The `license` in the header of the card of the base, or of the checkpoint; `other` where neither has one."""
    source = base.rpartition("folder:")[2] if "folder:" in base else ""
    for folder in (checkpoint, *([Path(source).expanduser()] if source else [])):
        if not (folder / "README.md").is_file():
            continue
        _, dashes, rest = (folder / "README.md").read_text(encoding="utf-8", errors="replace").partition("---\n")
        try:
            header = yaml.safe_load(rest.partition("\n---")[0]) if dashes else None
        except yaml.YAMLError:  # somebody's text, not a header
            continue
        if isinstance(header, dict) and header.get("license"):
            return str(header["license"])
    return "other"


def _questions(manifests: dict[str, Manifest]) -> dict[str, list[str]]:
    """Group -> sources of the questions that the stages were made with."""
    used = {}
    for manifest in manifests.values():
        for group, sources in (manifest.config.get("questions") or {}).items():
            used[group] = [source["use"] for source in sources]
    return used


def _measured_now(run: RunFolder, stage_id: str, made_by: Manifest | None) -> bool:
    """Whether the run's evaluation read the stage as it is now."""
    evaluation = Manifest.read(run.stage(EVALUATE.id))
    return bool(evaluation and made_by and evaluation.inputs.get(stage_id) == made_by.identity())


def _figures(run: RunFolder, rung: str) -> tuple[dict, dict] | None:
    """(settings, set -> figures) of a rung in the run's evaluation; None where it has not been measured."""
    path = run.stage(EVALUATE.id) / "results.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return (found["settings"], found["results"][rung]) if rung in found["results"] else None
