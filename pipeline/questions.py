"""The questions of a run: training groups, held-out sets, and the wall between them."""

from collections.abc import Sequence

from data_recipes import sources
from data_recipes.decontamination import HeldOut
from data_recipes.rows import Question
from data_recipes.templates import prompts_for
from pipeline.config.profile import Profile
from pipeline.context import StageContext
from pipeline.errors import ConfigError


def evaluation_questions(profile: Profile, name: str) -> list[Question]:
    """The held-out set of that name: the same for every run of the profile, whatever its seed."""
    evaluation = profile.stages.evaluate
    chosen = evaluation.sets[name]
    return sources.load(chosen.source.use, chosen.questions, f"{evaluation.seed} {name}", True, chosen.source.args)


def training_questions(ctx: StageContext, groups: dict[str, int | None]) -> list[Question]:
    """Questions from each named group of the profile, without those that overlap with a held-out set.

    A group that never ends is asked for more until the count is reached; a finite one may give fewer.
    """
    held_out = held_out_texts(ctx.profile)
    found = []
    for name, count in groups.items():
        if count == 0:
            continue
        group = [(source.use, source.args, source.weight) for source in ctx.profile.questions[name]]
        rows = sources.load_group(group, count, f"{ctx.seed} {name}")
        clean = [row for row in rows if not held_out.overlaps(row.question)]
        if len(clean) < len(rows):
            ctx.log.info(
                "%s: %d of %d questions of '%s' overlap with held-out sets and are left out",
                ctx.stage_id, len(rows) - len(clean), len(rows), name,
            )  # fmt: skip
        if not clean:
            raise ConfigError(
                f"{ctx.stage_id}: every question of the group '{name}' overlaps with a held-out set of "
                "stages.evaluate.sets. Evaluate on other questions than those that are trained on."
            )
        found += clean
    if any(question.verifier == "code" for question in found):
        require_sandbox(getattr(ctx.config, "allow_weak_sandbox", False))
    ctx.rng("question order").shuffle(found)
    return found


def require_sandbox(allow_weak: bool) -> None:
    """Raises ConfigError where answers are programs and this machine cannot run them behind a full sandbox."""
    from pipeline.sandbox import SandboxError, require

    try:
        require(allow_weak)
    except SandboxError as error:
        raise ConfigError(str(error)) from error


def held_out_texts(profile: Profile) -> HeldOut:
    """The n-grams of all evaluation sets."""
    return HeldOut(q.question for name in profile.stages.evaluate.sets for q in evaluation_questions(profile, name))


def render_prompts(
    profile: Profile, questions: Sequence[Question], tokenizer, template: str, max_tokens: int
) -> list[str]:
    """Prompts of the asked template (`r1_zero` or `chat`).

    Raises ConfigError where the tokenizer has no chat template, or where a prompt leaves no room for `max_tokens` of
    completion in the engine's context.
    """
    if template == "chat" and not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template, which every stage after R1-Zero needs. "
            "Set `chat_template` in its tokenizer_config.json, or start from a model that has one."
        )
    prompts = prompts_for(list(questions), tokenizer, template, profile.templates.r1_zero)
    room = profile.engine.max_model_len - max_tokens
    for question, ids in zip(questions, tokenizer(prompts, add_special_tokens=False)["input_ids"], strict=True):
        if len(ids) > room:
            raise ConfigError(
                f"The prompt of question '{question.id}' has {len(ids)} tokens, but engine.max_model_len "
                f"{profile.engine.max_model_len} minus {max_tokens} tokens of completion leaves room for {room}. "
                "Raise engine.max_model_len, lower the completion length, or remove the question."
            )
    return prompts
