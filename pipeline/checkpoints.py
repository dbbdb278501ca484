"""The checkpoints of a run by name: `r1-zero`, `distill/qwen`, `base-model/llama`, or any folder that holds one."""

from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.graph import LADDER, STAGES
from pipeline.manifest import MANIFEST
from pipeline.run_folder import RunFolder

PLAIN_TEXT_STAGES = ("base_model", "r1_zero", "student_rl")
"""Stages whose models are prompted with plain text; all others have learned the chat template."""


def checkpoint_of(run: RunFolder, name: str) -> Path:
    """The checkpoint folder that `name` means: a stage of the run, `stage/student`, or a path.

    Raises ConfigError for a name that is neither, a stage without a checkpoint, one that has not finished, and a
    student that it does not have, each naming what there is.
    """
    if not name:
        raise ConfigError(f"MODEL is empty. Name {_names(run)}, or the path of a checkpoint folder.")
    stage_id, slash, _ = name.replace("-", "_").partition("/")
    if stage_id not in STAGES:
        return _folder(run, name)
    folder = run.stage(stage_id)
    if not (folder / MANIFEST).is_file():
        raise ConfigError(
            f"MODEL={name}: the stage {stage_id} of {run.path} has not finished. "
            f"Run `make {stage_id.replace('_', '-')} RUN={run.name}` first, or name {_names(run)}."
        )
    found = _student_checkpoint(folder, name.partition("/")[2]) if slash else folder / "checkpoint"
    if not (found / "config.json").is_file():
        students = sorted(path.name for path in (folder / "students").glob("*"))
        beside = f" It has {', '.join(f'{stage_id}/{name}' for name in students)}." if students else ""
        raise ConfigError(f"MODEL={name}: {folder} holds no such checkpoint.{beside} Name {_names(run)}.")
    return found


def is_chat_model(name: str) -> bool:
    """Whether the model of that name has learned the chat template; a path counts as such."""
    stage_id, _, _ = name.replace("-", "_").partition("/")
    return stage_id not in PLAIN_TEXT_STAGES


def _student_checkpoint(folder: Path, student: str) -> Path:
    """`distill` keeps a student's checkpoint beside what it was trained with, `base_model` the bare folder."""
    inside = folder / "students" / student
    return inside / "checkpoint" if (inside / "checkpoint").is_dir() else inside


def _folder(run: RunFolder, name: str) -> Path:
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path
    raise ConfigError(f"MODEL={name} is no stage, and no folder with a config.json. Name {_names(run)}.")


def _names(run: RunFolder) -> str:
    """The models that the run has."""
    found = []
    for stage in LADDER:
        folder = run.stage(stage.id)
        if not (folder / MANIFEST).is_file():
            continue
        if (folder / "checkpoint" / "config.json").is_file():
            found.append(stage.id)
        found += [f"{stage.id}/{path.name}" for path in sorted((folder / "students").glob("*"))]
    return f"one of {', '.join(found)}" if found else f"a stage of {run.path}, once one has finished"
