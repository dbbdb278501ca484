"""What the RL stages will train on, as far as this machine can tell before anything runs: whether there are enough
questions, whether the rewards apply to them, how often each is drawn, and how many of the user's own are evaluated."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from data_recipes.cleaning.decontamination import HeldOut
from data_recipes.cleaning.funnel import QuestionFunnel
from data_recipes.question import Question
from data_recipes.sources import catalogue
from pipeline.checks.data import MOST_CHEAP_ROWS, is_fetched, sample_of
from pipeline.config.data import QuestionSource
from pipeline.config.profile import NOTHING_TO_CHOOSE_BY, Profile
from pipeline.core.errors import ConfigError
from pipeline.steps.questions import held_out_texts, mixed_group
from pipeline.steps.rewarded import check_rewards_apply


@dataclass(frozen=True)
class Known:
    """What is known of the questions of a stage."""

    rows: tuple[Question, ...]
    exact: bool
    """Whether these are the stage's questions; else they are samples of every source."""
    complete: bool
    """Whether every source was looked at: one that is not on this machine cannot be."""


def check_questions(profile: Profile) -> None:
    """Raises ConfigError for an RL stage with fewer questions than a rollout asks, and for one of whose rewards has
    nothing to say about any of its questions."""
    for stage, section in profile.stages.policies.items():
        known, needed = known_questions(profile, section.questions), section.grpo.prompts_sampled
        if known.exact and len(known.rows) < needed:
            raise ConfigError(
                f"stages.{stage}: there are {len(known.rows)} questions ({', '.join(section.questions)}; duplicates "
                f"and held-out ones are not among them), and a rollout asks {needed} different ones. Give more "
                f"questions, or lower stages.{stage}.grpo.rollout_prompts, or prompts_per_step."
            )
        if known.complete:
            check_rewards_apply(stage, section.rewards, known.rows)


def known_questions(profile: Profile, groups: dict[str, int | None]) -> Known:
    """The questions that a stage takes from the groups: they themselves where files alone give them, else some of each
    source."""
    rows, exact, complete = [], True, True
    for name, count in groups.items():
        if count == 0:
            continue
        mixed = mixed_files(profile, name, count)
        if mixed:
            rows += mixed[0]
            continue
        exact = False
        for source in profile.questions[name]:
            looked = sample_of(source, name)
            complete = complete and bool(looked.rows) and (looked.whole or not catalogue.is_finite(source.use))
            rows += looked.rows
    return Known(tuple(rows), exact, complete)


def mixed_files(profile: Profile, name: str, count: int | None) -> tuple[list[Question], QuestionFunnel] | None:
    """(questions, funnel) of a group of which every source is a file on this machine, and none large; else None."""
    looked = [sample_of(source, name) for source in profile.questions[name]]
    if not all(each.whole for each in looked) or sum(len(each.rows) for each in looked) > MOST_CHEAP_ROWS:
        return None
    return _mixed_files(profile.model_dump_json(), name, count)


@cache
def _mixed_files(profile_json: str, name: str, count: int | None) -> tuple[list[Question], QuestionFunnel]:
    profile = Profile.model_validate_json(profile_json)
    evaluated = [chosen.source for chosen in profile.stages.evaluate.sets.values()]
    here = not any(is_fetched(source) for source in (*evaluated, *profile.cleaning.also_held_out.values()))
    return mixed_group(profile, name, count, "check", held_out_texts(profile) if here else HeldOut({}))


def question_notes(profile: Profile) -> Iterator[str]:
    """How often an RL stage draws each question of a file, and how many questions of the user's own are evaluated."""
    for stage, section in profile.stages.policies.items():
        curve = section.heldout
        if curve and curve.keep_best and not profile.chooses(curve):
            yield f"warning: stages.{stage}: {NOTHING_TO_CHOOSE_BY.format(set=curve.set)}"
        known = known_questions(profile, section.questions)
        if known.exact and known.rows:
            grpo = section.grpo
            drawn = grpo.max_steps * grpo.prompts_sampled // grpo.rollout_steps
            yield (
                f"stages.{stage}: {drawn} prompts from {len(known.rows)} questions, so each is drawn "
                f"{drawn / len(known.rows):.3g} times"
            )
    own = {source.use for group in profile.questions.values() for source in group if is_own(source)}
    if not own:
        return
    sets = profile.stages.evaluate.sets
    evaluated = {name: chosen for name, chosen in sets.items() if is_own(chosen.source)}
    if not evaluated:
        yield (
            f"warning: none of your questions is evaluated: stages.evaluate.sets measures "
            f"{', '.join(chosen.source.use for chosen in sets.values())}, while you train on {', '.join(sorted(own))}. "
            "Add a set of questions of your own that are not trained on: stages.evaluate.sets: "
            '{NAME: {source: {use: "jsonl:FILE"}, samples: 4}}.'
        )
    for name, chosen in evaluated.items():
        looked = sample_of(chosen.source)
        if looked.whole:
            there = len(looked.rows)
            count = f"{there if chosen.questions is None else min(chosen.questions, there)} of {there}"
        else:
            count = f"{chosen.questions_in_words} (how many there are is not known here)"
        yield (
            f"evaluate.{name}: {count} questions of {chosen.source.use} are evaluated, "
            f"each {chosen.samples} times for every rung"
        )


def is_own(source: QuestionSource) -> bool:
    """Whether the questions are somebody's, from a file or a data set, and not made by a recipe."""
    return catalogue.is_finite(source.use)
