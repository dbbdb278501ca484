"""What can be found out about a profile's models before anything runs: where they are, whether they fit, how their
chat templates write."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rich.table import Table

from pipeline.config.lora import LoRASettings
from pipeline.config.policy import SFT
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage
from pipeline.core.errors import ConfigError, told_with
from pipeline.core.packable import batch_rotation, not_packed
from pipeline.core.tokens import token_difference
from pipeline.ladder import STAGES, StageDefinition, of_kind
from pipeline.models.chat_format import answer_end, strips_reasoning, writes_the_date
from pipeline.models.memory import (
    TRAINED_BYTES,
    Device,
    Estimate,
    intended_device,
    reward_model_estimate,
    rl_estimate,
    sft_estimate,
    spread,
    this_device,
)
from pipeline.models.shapes import ModelShape, parameters_of, shape_of
from pipeline.models.sources import check_base, check_tokenizer, local_folder
from pipeline.training.lora import ROUTERS

GIB = 2**30
LATENT_ON_CPU = 576
"""Numbers of a latent and the rotary part of keys that vLLM 0.32 has a kernel for on the CPU."""
COMMON_HEADS = (64, 128)
"""Sizes that every engine has; vLLM is asked about others, which takes seconds."""


def check_models(profile: Profile) -> None:
    """Raises ConfigError for a model that cannot be had or cannot be used, and for adapters that cannot be trained."""
    tokenizers = {}
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
            _check_heads(profile, source, shape)
            _check_rotation(profile, source)
            tokenizers[role] = _tokenizer(profile, role)
    _check_taught(profile, tokenizers)
    _check_replay(profile)
    for key, lora in adapters_of(profile):
        if lacking := lora.lacks():
            raise ConfigError(f"{key}: {lacking}.")
        named = [] if lora.target_modules == "all-linear" else lora.target_modules
        shapes = [shape_of(source) for source in model_sources(profile).values()] if named else []
        if not all(shapes):  # only some families' layers are known by name
            continue
        known = list(dict.fromkeys(name for shape in shapes for name in shape.linear_names))
        known += ROUTERS if any(shape.experts for shape in shapes) else ()
        if unknown := [name for name in named if name.rpartition(".")[2] not in known]:
            raise ConfigError(
                f"{key}.lora.target_modules names {', '.join(unknown)}, and no linear layer of these models is "
                f"called so. They have {', '.join(known)}."
            )


def _check_taught(profile: Profile, tokenizers: Mapping[str, Any]) -> None:
    """Raises ConfigError for a student with other tokens than the teacher that is to judge each of them. Those of
    models that are not here are compared when the stage begins."""
    students = profile.stages.base_model.students
    for name in profile.stages.taught:
        section = getattr(profile.stages, name)
        for student in students if section.method != SFT else section.compare:
            ours, theirs = tokenizers[student], tokenizers["teacher"]
            if ours and theirs and (why := token_difference(ours, theirs)):
                raise ConfigError(
                    f"stages.{name} distils '{student}' on-policy, but {why}. The teacher has to give the probability "
                    "of each token that the student writes: use method: sft, or a student base with its tokenizer."
                )


def _check_replay(profile: Profile) -> None:
    """Raises ConfigError where experts are to be replayed that the engine does not tell, or a model does not have. What
    a model has whose layers are not known is found out when the stage begins."""
    for name, section in profile.stages.policies.items():
        if not section.grpo.routing_replay:
            continue
        key = f"stages.{name}.grpo.routing_replay"
        if untold := profile.engine.experts_untold:
            raise ConfigError(f"{key} is on, but {untold}, or {key}: false.")
        for role in _trained(profile, STAGES[name.partition(".")[0]]):
            source = model_sources(profile)[role]
            if (shape := shape_of(source)) and not shape.experts:
                raise ConfigError(f"{key} is on, but {source} has no experts. Set it to false, or take another base.")
            if other := _not_packed(source):
                raise ConfigError(
                    f"{key} is on, but {source} has {', '.join(other)}, which a packed forward pass does not compute, "
                    "and experts are replayed in packed passes alone. Set it to false, or take another base."
                )


def _check_heads(profile: Profile, source: str, shape: ModelShape | None) -> None:
    """Raises ConfigError where vLLM's attention on the CPU has no kernel for the model's heads."""
    on_cpu = profile.engine.kind == "vllm" and intended_device(profile, 1).kind == "cpu"
    if on_cpu and shape and shape.latent and profile.engine.latent_cache:
        size = shape.latent.rank + shape.latent.rotary
        if size != LATENT_ON_CPU:
            raise ConfigError(
                f"{source} has latents of {size} numbers, and vLLM's attention to latents on the CPU takes "
                f"{LATENT_ON_CPU} alone, DeepSeek-V3's. Set engine.latent_cache: false."
            )
        return
    if not on_cpu or shape is None or shape.head_size in COMMON_HEADS or source.startswith("pocket:"):
        return
    try:
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
    except ImportError:  # a missing engine is reported elsewhere
        return
    sizes = CPUAttentionBackend.get_supported_head_sizes()
    if sizes and shape.head_size not in sizes:
        raise ConfigError(
            f"{source} has attention heads of {shape.head_size} numbers, and vLLM's attention on the CPU knows "
            f"{', '.join(map(str, sizes))}. Set engine.kind: transformers, or take another model."
        )


def _check_rotation(profile: Profile, source: str) -> None:
    """Raises ConfigError where a text's log-probabilities would depend on the texts beside it."""
    config, longest = _config(source), profile.engine.max_model_len
    if config is not None and (kind := batch_rotation(config, longest)):
        raise ConfigError(
            f"{source} has {kind} rotary embeddings, which change for a whole batch once one of its texts is longer "
            f"than the model's original context, and engine.max_model_len is {longest}. Set it to that context or "
            "less, or take a base with rope_type yarn or llama3, whose texts do not depend on each other."
        )


def model_sources(profile: Profile) -> dict[str, str]:
    """`teacher` and each student's name -> where its base comes from."""
    return {"teacher": profile.stages.base_model.teacher, **profile.stages.base_model.students}


def model_notes(profile: Profile) -> list[str]:
    """What is no error but worth knowing: models that are not here, and templates that drop reasoning."""
    notes = []
    for role, source in model_sources(profile).items():
        if missing := check_base(source):
            notes.append(f"warning: {role}: {missing}")
        if (other := _not_packed(source)) and _trains_packed(profile, role):
            notes.append(
                f"warning: {role}: {source} has {', '.join(other)}, which a packed forward pass does not compute. RL "
                "on it runs without packing and shared prompts, which is right and slower."
            )
        tokenizer = _tokenizer(profile, role)
        if tokenizer is None:
            continue
        mend = f"chat_template in stages.base_model.tokenizers.{role}"
        if answer_end(tokenizer, source) is None:
            notes.append(
                f"warning: {role}: the chat template of {source} writes no end token after an answer. Training here "
                f"adds it, but whoever renders a conversation with it shows none; {mend} replaces it."
            )
        if writes_the_date(tokenizer):
            notes.append(
                f"warning: {role}: the chat template of {source} writes today's date, so prompts change by the day and "
                f"a run cannot be repeated exactly. Set {mend}."
            )
        if strips_reasoning(tokenizer, source):
            notes.append(
                f"warning: {role}: the chat template of {source} drops the reasoning of an answer. Training here "
                "writes answers as they are, but whoever renders a conversation with it trains or shows none; "
                f"{mend} replaces it."
            )
    return notes


def _not_packed(source: str) -> list[str]:
    config = _config(source)
    return [] if config is None else not_packed(config)


def _config(source: str):
    """The model's transformers configuration; None of a base that comes with the repository, or is not here."""
    folder = None if source.startswith("pocket:") else local_folder(source)
    if folder is None:
        return None
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _trains_packed(profile: Profile, role: str) -> bool:
    trained = [stage.id for stage in of_kind("rl") if role in _trained(profile, stage)]
    return any(profile.stages.of(RLStage)[name].grpo.speedups.packing for name in trained)


def models_table(profile: Profile) -> Table:
    table = Table(title="models", title_justify="left")
    for column in ("role", "source", "parameters", "layers × hidden", "context"):
        table.add_column(column, overflow="fold")
    for role, source in model_sources(profile).items():
        shape = shape_of(source)
        if shape is None:
            count = parameters_of(source)
            table.add_row(role, source, _count(count) if count else "?", "?", "?")
            continue
        table.add_row(
            role,
            source,
            _counts(shape),
            f"{shape.layers} × {shape.hidden}",
            str(profile.stages.base_model.contexts.get(role, shape.context)),
        )
    return table


def memory_table(profile: Profile, processes: int = 1) -> Table:
    """An estimate for each training of each model on the device that the profile is made for, with what does not fit
    said: there, and on this machine's GPUs where it has some. `processes`: how many are to run it, one a GPU."""
    meant, here = intended_device(profile, processes), this_device(profile, processes)
    whose = "the profile is made for" if profile.made_for else "here"
    table = Table(title=f"memory in GiB, estimated ({whose}: {meant})", title_justify="left")
    for column in ("model", "stages", "weights, optimizer", "frozen", "activations", "engine", "in all", "note"):
        table.add_column(column)
    local = {(role, stage): estimate for role, stage, _, estimate in estimates(profile, here)}
    for role, stage, source, estimate in estimates(profile, meant):
        if estimate is None:
            table.add_row(role, stage, *_unshaped(source, meant))
            continue
        parts = (estimate.weights, estimate.reference, estimate.activations, estimate.engine, estimate.total)
        notes = [spread(estimate.total, meant)]
        if here != meant and here.kind == "cuda" and (lacks := spread(local[role, stage].total, here)):
            notes.append(f"here: {lacks}")
        table.add_row(role, stage, *(f"{part / GIB:.1f}" for part in parts), "; ".join(filter(None, notes)))
    return table


def estimates(profile: Profile, device: Device) -> Iterator[tuple[str, str, str, Estimate | None]]:
    """Role, stage, model source and estimate of each training; None where the model's shape is not known."""
    for role, source in model_sources(profile).items():
        shape = shape_of(source)
        for stage in of_kind("rl", "sft", "scorer"):
            if role in _trained(profile, stage):
                yield role, stage.id, source, shape and _estimate(shape, profile, stage, device)


def _trained(profile: Profile, stage: StageDefinition) -> Collection[str]:
    """The models that a stage trains, by the names of `model_sources`."""
    if stage.kind == "scorer" and not getattr(profile.stages, stage.id).scorers:
        return ()
    if stage.trains == "one student":
        return (profile.stages.chosen_students[stage.id],)
    return profile.stages.base_model.students if stage.trains == "students" else ("teacher",)


def _estimate(shape: ModelShape, profile: Profile, stage: StageDefinition, device: Device) -> Estimate:
    section = getattr(profile.stages, stage.id)
    if stage.kind == "rl":
        return rl_estimate(shape, profile, section, device)
    if stage.kind == "sft":
        return sft_estimate(shape, profile, section.sft, device)
    return reward_model_estimate(shape, profile, section, device)


def _tokenizer(profile: Profile, role: str):
    """The model's tokenizer, checked; None where it is not on this machine as it is. The pocket bases' are known good,
    and reading them would take longer than everything else that is checked."""
    source = model_sources(profile)[role]
    folder = None if source.startswith("pocket:") else local_folder(source)
    return folder and check_tokenizer(source, folder, profile.stages.base_model.tokenizers.get(role))


def adapters_of(profile: Profile) -> Iterator[tuple[str, LoRASettings]]:
    """The key of each section that trains adapters, and their settings."""
    yield from profile.adapters().items()


def _unshaped(source: str, device: Device) -> list[str]:
    """The row of a training of a model whose layers are not known: from the number of its weights, where that is."""
    count = parameters_of(source)
    if count is None:
        why = "architecture not estimated" if check_base(source) is None else "not here, and its size is not known"
        return [*["?"] * 5, why]
    weights = count * TRAINED_BYTES
    return [f"{weights / GIB:.1f}", *["?"] * 4, f"all weights trained: {spread(weights, device) or 'the rest unknown'}"]


def _counts(shape: ModelShape) -> str:
    used = f", {_count(shape.active_parameters)} of them active" if shape.experts else ""
    return _count(shape.parameters) + used


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.2f} G" if parameters >= 1e9 else f"{parameters / 1e6:.2f} M"
