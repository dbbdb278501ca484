"""What can be found out about a profile's models before anything runs: where they are, whether they fit, how their
chat templates write."""

from collections.abc import Iterator

from rich.table import Table

from pipeline.base_models import check_base, check_tokenizer, local_folder
from pipeline.chat_format import strips_reasoning
from pipeline.config.profile import Profile
from pipeline.errors import ConfigError, told_with
from pipeline.memory import Estimate, device_bytes, device_kind, devices, rl_estimate, sft_estimate, spread
from pipeline.model_shapes import ModelShape, shape_of
from pipeline.training.lora import LoRASettings

GIB = 2**30


def check_models(profile: Profile) -> None:
    """Raises ConfigError for a model that cannot be had or cannot be used, and for adapters that cannot be trained."""
    for role, source in model_sources(profile).items():
        with told_with(f"stages.base_model.{'' if role == 'teacher' else 'students.'}{role}"):
            check_base(source)
            shape = shape_of(source)
            context = profile.stages.base_model.contexts.get(role, shape.context if shape else 2**31)
            if context < profile.engine.max_model_len:
                raise ConfigError(
                    f"engine.max_model_len is {profile.engine.max_model_len}, but {source} was made for "
                    f"{context} tokens. Set engine.max_model_len to at most {context}, and completion lengths below "
                    f"it; or, for a model that is to learn longer texts, set stages.base_model.contexts.{role}."
                )
            _tokenizer(profile, role)
    for key, lora in _adapters(profile):
        if lacking := lora.lacks():
            raise ConfigError(f"{key}: {lacking}.")


def model_sources(profile: Profile) -> dict[str, str]:
    """`teacher` and each student's name -> where its base comes from."""
    return {"teacher": profile.stages.base_model.teacher, **profile.stages.base_model.students}


def model_notes(profile: Profile) -> list[str]:
    """What is no error but worth knowing: models that are not here, and templates that drop reasoning."""
    notes = []
    for role, source in model_sources(profile).items():
        if missing := check_base(source):
            notes.append(f"warning: {role}: {missing}")
        tokenizer = _tokenizer(profile, role)
        if tokenizer is not None and strips_reasoning(tokenizer, source):
            notes.append(
                f"warning: {role}: the chat template of {source} drops the reasoning of an answer. Training here "
                "writes answers as they are, but whoever renders a conversation with it trains or shows none; "
                f"chat_template in stages.base_model.tokenizers.{role} replaces it."
            )
    return notes


def models_table(profile: Profile) -> Table:
    table = Table(title="models", title_justify="left")
    for column in ("role", "source", "parameters", "layers × hidden", "context"):
        table.add_column(column, overflow="fold")
    for role, source in model_sources(profile).items():
        shape = shape_of(source)
        if shape is None:
            table.add_row(role, source, "?", "?", "?")
            continue
        table.add_row(
            role,
            source,
            _count(shape.parameters),
            f"{shape.layers} × {shape.hidden}",
            str(profile.stages.base_model.contexts.get(role, shape.context)),
        )
    return table


def memory_table(profile: Profile) -> Table:
    """An estimate for each training of each model, with what does not fit said."""
    kind = device_kind(profile)
    here = f"{devices(kind)} GPU, each" if kind == "cuda" else "this machine:"
    table = Table(title=f"memory in GiB, estimated ({here} {device_bytes(kind) / GIB:.1f} GiB)", title_justify="left")
    for column in ("model", "stages", "weights, optimizer", "reference", "activations", "engine", "in all", "note"):
        table.add_column(column)
    for role, stages, estimate in _estimates(profile, kind):
        if estimate is None:
            table.add_row(role, stages, *["?"] * 5, "known once the model is here")
            continue
        parts = (estimate.weights, estimate.reference, estimate.activations, estimate.engine, estimate.total)
        table.add_row(role, stages, *(f"{part / GIB:.1f}" for part in parts), spread(estimate.total, kind))
    return table


def _estimates(profile: Profile, kind: str) -> Iterator[tuple[str, str, Estimate | None]]:
    stages, base = profile.stages, profile.stages.base_model
    teacher = shape_of(base.teacher)
    for name in ("r1_zero", "reasoning_rl", "general_rl"):
        yield "teacher", name, teacher and rl_estimate(teacher, profile, getattr(stages, name).grpo, kind)
    for name in ("cold_start_sft", "sft"):
        yield "teacher", name, teacher and sft_estimate(teacher, profile, getattr(stages, name).sft, kind)
    for student, source in base.students.items():
        shape: ModelShape | None = shape_of(source)
        yield student, "distill", shape and sft_estimate(shape, profile, stages.distill.sft, kind)
        if student == stages.student_rl.student:
            yield student, "student_rl", shape and rl_estimate(shape, profile, stages.student_rl.grpo, kind)


def _tokenizer(profile: Profile, role: str):
    """The model's tokenizer, checked; None where it is not on this machine as it is. The pocket bases' are known good,
    and reading them would take longer than everything else that is checked."""
    source = model_sources(profile)[role]
    folder = None if source.startswith("pocket:") else local_folder(source)
    return folder and check_tokenizer(source, folder, profile.stages.base_model.tokenizers.get(role))


def _adapters(profile: Profile) -> Iterator[tuple[str, LoRASettings]]:
    for name in ("r1_zero", "reasoning_rl", "general_rl", "student_rl"):
        if lora := getattr(profile.stages, name).grpo.lora:
            yield f"stages.{name}.grpo", lora
    for name in ("cold_start_sft", "sft", "distill"):
        if lora := getattr(profile.stages, name).sft.lora:
            yield f"stages.{name}.sft", lora


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} G" if parameters >= 1e9 else f"{parameters / 1e6:.2f} M"
