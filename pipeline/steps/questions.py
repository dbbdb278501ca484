"""The questions of a run: training groups, held-out sets, and their separation."""

import json
from collections.abc import Sequence
from typing import Any

from data_recipes.cleaning.decontamination import HeldOut
from data_recipes.cleaning.funnel import QuestionFunnel
from data_recipes.mixtures import mix
from data_recipes.question import Question
from data_recipes.sources import catalogue
from data_recipes.templates import prompts_for
from pipeline.config.data import Heldout
from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError
from pipeline.core.files import hash_json, write_durably
from pipeline.core.tokens import prompts_ids
from pipeline.sandbox import SandboxError, require
from pipeline.steps.context import StageContext

FUNNELS = "question_funnels.json"
PROMPTS = "prompts that fit"
"""The funnel of questions whose prompts do not fit."""


def evaluation_questions(profile: Profile, name: str) -> list[Question]:
    """The held-out set of that name: the same for every run of the profile, whatever its seed."""
    return _held_out_rows(profile, name, profile.stages.evaluate.sets[name].questions)


def _held_out_rows(profile: Profile, name: str, count: int | None) -> list[Question]:
    """The first `count` questions of a set's source: a larger count begins with those of a smaller one."""
    source = profile.stages.evaluate.sets[name].source
    return catalogue.load(source.use, count, f"{profile.stages.evaluate.seed} {name}", True, source.args)


def selection_questions(profile: Profile, heldout: Heldout) -> list[Question]:
    """Questions to choose a checkpoint by: the next ones of the set's source after those that the evaluation asks,
    and none that it asks in the same words. Raises ConfigError where the source has none left."""
    chosen = profile.stages.evaluate.sets[heldout.set]
    evaluated = evaluation_questions(profile, heldout.set)
    asked = {row.question for row in evaluated}
    count = chosen.questions + heldout.questions
    found = [row for row in _held_out_rows(profile, heldout.set, count)[len(evaluated) :] if row.question not in asked]
    if not found:
        raise ConfigError(
            f"heldout.keep_best: {chosen.source.use} has no questions beside the {len(evaluated)} that "
            f"stages.evaluate.sets.{heldout.set} asks. Lower that set's `questions`, give its source more, "
            "or set keep_best: false."
        )
    return found


def training_questions(ctx: StageContext, groups: dict[str, int | None]) -> list[Question]:
    """Questions from each named group of the profile: cleaned, without those that overlap with a held-out set, and
    mixed by weight (`data_recipes.mixtures`). What became of the others goes to `question_funnels.json`.

    A group that never ends is asked for more until the count is reached; a finite one may give fewer.
    """
    held_out = held_out_texts(ctx.profile)
    found = []
    for name, count in groups.items():
        if count == 0:
            continue
        rows, funnel = mixed_group(ctx.profile, name, count, f"{ctx.seed} {name}", held_out)
        note_funnel(ctx, name, funnel)
        if not rows:
            raise ConfigError(
                f"{ctx.stage_id}: no question of the group '{name}' is left ({funnel}). Where they overlap with a "
                "held-out set of stages.evaluate.sets: Evaluate on other questions than those that are trained on."
            )
        found += rows if len(groups) == 1 else [row.model_copy(update={"id": f"{name}: {row.id}"}) for row in rows]
    if any(question.verifier == "code" for question in found):
        require_sandbox(ctx.profile.allow_weak_sandbox)
    ctx.rng("question order").shuffle(found)
    return found


def mixed_group(
    profile: Profile, name: str, count: int | None, seed: str, held_out: HeldOut
) -> tuple[list[Question], QuestionFunnel]:
    """(questions, funnel) of a group of the profile, cleaned as the profile's `cleaning` says."""
    cleaning = profile.cleaning
    group = [source.in_group(name) for source in profile.questions[name]]
    return mix(group, count, seed, held_out, cleaning.duplicates, cleaning.near_similarity)


def note_funnel(ctx: StageContext, name: str, funnel: QuestionFunnel, **figures: Any) -> None:
    """Write a funnel to the stage's folder, and log it if anything was dropped."""
    path = ctx.folder / FUNNELS
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_durably(path, json.dumps({**before, name: {**funnel.as_dict(), **figures}}, ensure_ascii=False, indent=1))
    if funnel.dropped or funnel.repeated:
        ctx.log.info("%s: '%s': %s", ctx.stage_id, name, funnel)


def require_sandbox(allow_weak: bool) -> None:
    """Raises ConfigError where answers are programs and this machine cannot run them behind a full sandbox."""
    try:
        require(allow_weak)
    except SandboxError as error:
        raise ConfigError(str(error)) from error


_held_out: dict[str, HeldOut] = {}
"""The held-out texts that were read last, by what they were read from: every stage and scorer asks for them."""


def held_out_texts(profile: Profile) -> HeldOut:
    """All evaluation sets, with the questions that checkpoints are chosen by, the sets that `cleaning.also_held_out`
    names, and their solutions.

    Read once a process, and again when the profile or a file has changed.
    """
    evaluation, cleaning = profile.stages.evaluate, profile.cleaning
    sources = [chosen.source for chosen in evaluation.sets.values()] + list(cleaning.also_held_out.values())
    files = [catalogue.local_file(source.use, source.args) for source in sources]
    stats = [(file.stat().st_size, file.stat().st_mtime_ns) if file and file.exists() else None for file in files]
    choosing = [heldout.model_dump(mode="json") for heldout in _choosing(profile)]
    key = hash_json([evaluation.model_dump(mode="json"), cleaning.model_dump(mode="json"), stats, choosing])
    if key not in _held_out:
        found = _read_held_out(profile)
        _held_out.clear()
        _held_out[key] = found
    return _held_out[key]


def _read_held_out(profile: Profile) -> HeldOut:
    evaluated = profile.stages.evaluate.sets
    sets = {name: evaluation_questions(profile, name) for name in evaluated}
    for heldout in _choosing(profile):
        sets[heldout.set] = sets[heldout.set] + selection_questions(profile, heldout)
    for name, source in profile.cleaning.also_held_out.items():
        sets[name] = catalogue.load_finite(source.use, source.args)
    texts = {name: [text for row in rows for text in _texts(row)] for name, rows in sets.items()}
    apart = [name for name, chosen in evaluated.items() if catalogue.tells_apart(chosen.source.use)]
    whole = {name: texts.pop(name) for name in apart if name not in profile.cleaning.also_held_out}
    return HeldOut(texts, profile.cleaning.overlap_words, whole)


def _choosing(profile: Profile) -> list[Heldout]:
    """The held-out evaluations that choose a checkpoint; those that ask the same questions, once."""
    curves = [section.heldout for section in profile.stages.policies.values()]
    return list({(curve.set, curve.questions): curve for curve in curves if profile.chooses(curve)}.values())


def _texts(row: Question) -> list[str]:
    solution = row.columns().get("solution")
    return [row.whole, solution] if isinstance(solution, str) else [row.whole]


def fitting_prompts(
    ctx: StageContext, questions: Sequence[Question], tokenizer, template: str, max_tokens: int, name: str = PROMPTS
) -> tuple[list[Question], list[str]]:
    """(questions, their prompts) of those that leave room for `max_tokens` of completion in the engine's context.

    The others are left out, and counted under `name` in the stage's funnels. Raises ConfigError where none is left.
    """
    prompts, lengths = _rendered(ctx.profile, questions, tokenizer, template)
    room = ctx.profile.engine.max_model_len - max_tokens
    funnel = QuestionFunnel(rows_in=len(questions))
    kept = []
    for question, prompt, length in zip(questions, prompts, lengths, strict=True):
        if length > room:
            funnel.drop("prompt_too_long", f"{question.id}: {length} tokens, room for {room}")
        else:
            kept.append((question, prompt))
    funnel.rows_out = len(kept)
    if questions and not kept:
        raise ConfigError(
            f"{ctx.stage_id}: the prompts of all {len(questions)} questions are too long: the shortest has "
            f"{min(lengths)} tokens, and {_room_in_words(ctx.profile, max_tokens)}."
        )
    if funnel.dropped:
        note_funnel(ctx, name, funnel)
    return [question for question, _ in kept], [prompt for _, prompt in kept]


def render_prompts(
    profile: Profile, questions: Sequence[Question], tokenizer, template: str, max_tokens: int
) -> list[str]:
    """Prompts of the asked template (`r1_zero` or `chat`) for questions of which none may be left out.

    Raises ConfigError where the tokenizer has no chat template, or where a prompt leaves no room for `max_tokens` of
    completion in the engine's context.
    """
    prompts, lengths = _rendered(profile, questions, tokenizer, template)
    for question, length in zip(questions, lengths, strict=True):
        if length > profile.engine.max_model_len - max_tokens:
            raise ConfigError(
                f"The prompt of question '{question.id}' has {length} tokens, but "
                f"{_room_in_words(profile, max_tokens)}, or remove the question."
            )
    return prompts


def _rendered(profile: Profile, questions: Sequence[Question], tokenizer, template: str) -> tuple[list[str], list[int]]:
    """The prompts and their lengths in tokens."""
    if template == "chat" and not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template, which every stage after R1-Zero needs. "
            "Set `chat_template` in its tokenizer_config.json, or start from a model that has one."
        )
    prompts = prompts_for(list(questions), tokenizer, template, profile.templates.r1_zero)
    return prompts, [len(ids) for ids in prompts_ids(tokenizer, prompts)]


def _room_in_words(profile: Profile, max_tokens: int) -> str:
    context = profile.engine.max_model_len
    return (
        f"engine.max_model_len {context} minus {max_tokens} tokens of completion leaves room for "
        f"{context - max_tokens}. Raise engine.max_model_len or lower the completion length"
    )
