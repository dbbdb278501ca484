"""The checkpoints of a run by name: `r1-zero`, `distill/qwen`, `base-model/llama`, or any folder that holds one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.profile import Profile
from pipeline.core import tokens
from pipeline.core.errors import ConfigError, first_line
from pipeline.core.manifest import MANIFEST, Manifest
from pipeline.ladder import BASE, DISTILL, LADDER, STAGES
from pipeline.models.config_file import read_config
from pipeline.runs.explain import chain
from pipeline.runs.folder import RunFolder


@dataclass(frozen=True)
class Origin:
    """What a checkpoint of a run was trained from."""

    student: str
    """The student whose it is; '' for the teacher's."""
    base: str
    """The source of the base model at the end of the chain."""
    start: str
    """Where the checkpoint that its stage started from lies, relative to the run's folder; of a base its own place."""
    from_base: bool
    """Whether that checkpoint is the base itself."""


def origin_of(profile: Profile, run: RunFolder, name: str) -> Origin | None:
    """Where the checkpoint of a stage or `stage/student` comes from; None for a path outside the run.

    The manifests say it, those of stages that were replaced since included, so that a profile that has changed names
    no other base than the one that was used. Of what has no manifest the profile says it.
    Raises ConfigError for a student whose base is not known any more.
    """
    stage_id, output = stage_and_student(name)
    student = output.partition("/")[0]  # `qwen/on_policy` is one of the student `qwen`
    stage = STAGES.get(stage_id)
    if stage is None:
        return None
    made_by = Manifest.read(run.stage(stage_id))
    made = {link.stage_id: link.manifest for link in chain(run, stage_id, made_by)} if made_by else {}

    def section(of: str) -> dict[str, Any]:
        found = made[of].config.get("stage") if made.get(of) else None
        return found or getattr(profile.stages, of).model_dump(mode="json")

    bases = section(BASE.id)
    if stage.trains == "one student":
        student = section(stage_id)["student"]
    if student and student not in bases["students"]:
        raise ConfigError(
            f"{name}: the base of the student '{student}' is not known any more: {BASE.id} has only "
            f"{', '.join(bases['students']) or 'no student'}. Add it to stages.{BASE.id}.students again."
        )
    start = STAGES[stage.starts_from] if stage.starts_from else stage
    return Origin(
        student=student,
        base=bases["students"][student] if student else bases["teacher"],
        start=f"{start.id}/{start.checkpoint(student)}",
        from_base=start is BASE,
    )


def full_name(profile: Profile, name: str) -> str:
    """A student's bare name means its distilled checkpoint."""
    return f"{DISTILL.id}/{name}" if name in profile.stages.base_model.students else name


def stage_and_student(name: str) -> tuple[str, str]:
    """`student-rl` → ("student_rl", ""), `distill/qwen` → ("distill", "qwen"); of a path nothing that is a stage."""
    stage_id, _, student = name.partition("/")
    return stage_id.replace("-", "_"), student


def checkpoint_of(run: RunFolder, name: str, variable: str = "MODEL") -> Path:
    """The checkpoint folder that `name` means: a stage of the run, `stage/student`, or a path. `variable` is
    what the user set to it.

    Raises ConfigError for a name that is neither, a stage without a checkpoint, one that has not finished, and a
    student that it does not have, each naming what there is; and for a model that writes no text.
    """
    if not name:
        raise ConfigError(f"{variable} is empty. Name {_names(run)}, or the path of a checkpoint folder.")
    stage_id, student = stage_and_student(name)
    if stage_id not in STAGES:
        return _writes_text(_folder(run, name, variable), name, variable)
    stage, folder = STAGES[stage_id], run.stage(stage_id)
    if not (folder / MANIFEST).is_file():
        raise ConfigError(
            f"{variable}={name}: the stage {stage_id} of {run.path} has not finished. "
            f"Run `make {stage.target} RUN={run.name}` first, or name {_names(run)}."
        )
    found = folder / stage.checkpoint(student)
    misnamed = "/" in name and not (student and stage.has_students)
    if misnamed or not (found / "config.json").is_file():
        students = sorted(path.name for path in (folder / "students").glob("*"))
        beside = f" It has {', '.join(f'{stage_id}/{name}' for name in students)}." if students else ""
        raise ConfigError(f"{variable}={name}: {folder} holds no such checkpoint.{beside} Name {_names(run)}.")
    return _writes_text(found, name, variable)


def load_tokenizer(checkpoint: Path, chat: bool):
    """The checkpoint's transformers tokenizer. With `chat` its chat template is tried.

    Raises ConfigError where configuration or tokenizer cannot be read, for a tokenizer without an end-of-sequence
    token, and for a chat template that is missing or cannot be rendered.
    """
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(checkpoint)
        tokenizer = tokens.load_tokenizer(checkpoint)
    except Exception as error:  # the files are foreign, and what transformers raises for them differs by kind
        raise ConfigError(
            f"{checkpoint} cannot be read: {type(error).__name__}: {first_line(error)}. Expected a config.json of a "
            "model that transformers knows, and beside it its tokenizer's (tokenizer.json, tokenizer_config.json)."
        ) from error
    if tokenizer.eos_token is None:
        raise ConfigError(
            f"The tokenizer of {checkpoint} has no end-of-sequence token. Set `eos_token` in its "
            "tokenizer_config.json to the token that an answer ends with."
        )
    if not chat:
        return tokenizer
    mend = "Give its tokenizer one that takes user and assistant turns, as chat_template.jinja."
    if not tokenizer.chat_template:
        raise ConfigError(f"The tokenizer of {checkpoint} has no chat template. {mend}")
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "q"}], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is foreign code, which may raise anything
        raise ConfigError(
            f"The chat template of {checkpoint} cannot be rendered: {type(error).__name__}: {first_line(error)}. {mend}"
        ) from error
    return tokenizer


def is_chat_model(name: str) -> bool:
    """Whether the model of that name has learned the chat template; a path counts as such."""
    stage_id, _ = stage_and_student(name)
    return stage_id not in STAGES or STAGES[stage_id].template == "chat"


def _writes_text(checkpoint: Path, name: str, variable: str) -> Path:
    """The folder itself, unless its model is of another kind, such as a reward model."""
    for architecture in read_config(checkpoint / "config.json").get("architectures") or ():
        if not architecture.endswith("ForCausalLM"):
            raise ConfigError(
                f"{variable}={name}: {checkpoint} holds a {architecture}, which writes no text. "
                "Expected a causal language model, whose architecture ends in ForCausalLM."
            )
    return checkpoint


def _folder(run: RunFolder, name: str, variable: str) -> Path:
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return path
    raise ConfigError(f"{variable}={name} is no stage, and no folder with a config.json. Name {_names(run)}.")


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
