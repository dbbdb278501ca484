"""Checks of a profile's questions before anything runs: reads each source, tries answers with their verifiers, mixes
the groups, and reports what could not be checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rich.table import Table

from data_recipes.cleaning.answers import unreadable_answers
from data_recipes.mixtures import check_everything
from data_recipes.question import Question
from data_recipes.sources import catalogue
from data_recipes.sources.hub import HubUnreachableError
from pipeline.config.data import QuestionSource
from pipeline.config.profile import Profile
from pipeline.config.stages import SampledData
from pipeline.core.errors import ConfigError, told_with
from pipeline.steps.questions import held_out_texts, mixed_group, require_sandbox

HUB_ROWS = 64
"""Rows of a data set on the Hub that a check streams."""
RECIPE_ROWS = 8
"""Questions of a recipe that a check tries."""
MOST_TRIED = 2_000
"""Answers of a source that a verifier tries which costs a process or a program each; others are all tried."""
MOST_CHEAP_ROWS = 20_000
"""Rows up to which a group of files is mixed by a check, for its funnel."""
MOST_UNREADABLE = 0.5
"""A larger share of answers that their verifier cannot read is a wrong mapping, not a few bad rows."""
COSTLY = ("code", "reasoning_gym", "custom")
EXAMPLES = 3


@dataclass(frozen=True)
class Looked:
    """What was found in a source."""

    rows: tuple[Question, ...]
    whole: bool
    """Whether these are all its rows."""
    unreadable: dict[str, str]
    tried: int
    """How many of the answers their verifier has tried."""
    note: str
    """Why there are no rows, where the source is not on this machine."""


def check_data(profile: Profile) -> None:
    """Raises ConfigError for a source that is wrong: its name, its file, its mapping, most of its answers."""
    for where, source, group in all_sources(profile):
        with told_with(where):
            sample_of(source, group)
    for stage, groups in asked_for(profile):
        for group, count in groups.items():
            if count is None:
                _check_null(profile, stage, group)
    for name, settings in profile.stages.evaluate.sets.items():
        if settings.questions is None and not catalogue.is_finite(settings.source.use):
            raise ConfigError(
                f"stages.evaluate.sets.{name}: the source '{settings.source.use}' never ends. Give the number of "
                "questions."
            )
        if any(row.verifier == "code" for row in sample_of(settings.source).rows):
            require_sandbox(profile.allow_weak_sandbox)
    for name, source in profile.cleaning.also_held_out.items():
        if not catalogue.is_finite(source.use):
            raise ConfigError(
                f"cleaning.also_held_out.{name}: '{source.use}' makes its questions. Name a file, a data set on the "
                "Hub or a benchmark."
            )


def _check_null(profile: Profile, stage: str, group: str) -> None:
    try:
        check_everything([source.in_group(group) for source in profile.questions[group]])
    except ConfigError as error:
        raise ConfigError(f"stages.{stage}.questions.{group}: {error}") from None


def all_sources(profile: Profile) -> Iterator[tuple[str, QuestionSource, str | None]]:
    """(where the profile has it, source, its group of questions if it is in one) of every source."""
    for name, group in profile.questions.items():
        yield from ((f"questions.{name}", source, name) for source in group)
    for name, settings in profile.stages.evaluate.sets.items():
        yield f"evaluate.{name}", settings.source, None
    for name, source in profile.cleaning.also_held_out.items():
        yield f"held out: {name}", source, None


def asked_for(profile: Profile) -> Iterator[tuple[str, dict[str, int | None]]]:
    """(stage, group -> how many questions it takes)."""
    for stage, section in {**profile.stages.policies, **profile.stages.of(SampledData)}.items():
        yield stage, section.questions


def sample_of(source: QuestionSource, group: str | None = None) -> Looked:
    """The source's rows, as they are in that group of questions: all of a local one, some of a recipe or of a data set
    on the Hub."""
    return _looked(source.model_dump_json(), group)


def is_fetched(source: QuestionSource) -> bool:
    """Whether the rows come from the Hub."""
    return source.use.startswith("hub:") or (source.use.startswith("benchmark:") and not source.args.get("path"))


@cache
def _looked(source_json: str, group: str | None) -> Looked:
    source = QuestionSource.model_validate_json(source_json)
    catalogue.check_source(source.use)
    finite = catalogue.is_finite(source.use)
    if source.upsample and not finite:
        raise ConfigError(f"The source '{source.use}' never ends, so upsample has no meaning for it. Leave it out.")
    fetched = is_fetched(source)
    try:
        if finite:
            rows = catalogue.load_finite(source.use, source.args, HUB_ROWS if fetched else None, group)
        else:
            rows = catalogue.load(source.use, RECIPE_ROWS, "check", False, source.args, group)
    except HubUnreachableError as error:
        return Looked((), False, {}, 0, str(error))
    if source.domain:
        rows = [row.model_copy(update={"domain": source.domain}) for row in rows]
    costly = [row for row in rows if row.verifier in COSTLY]
    tried = [row for row in rows if row.verifier not in COSTLY] + costly[:MOST_TRIED]
    unreadable = unreadable_answers(tried)
    if len(unreadable) > MOST_UNREADABLE * len(tried):
        raise ConfigError(
            f"{source.use}: {len(unreadable)} of {len(tried)} answers cannot be used. {_examples(rows, unreadable)}\n"
            "Map the right column, say where in it the answer stands (answer_after, answer_boxed), or name another "
            "verifier."
        )
    return Looked(tuple(rows), finite and (not fetched or len(rows) < HUB_ROWS), unreadable, len(tried), "")


def _examples(rows: list[Question] | tuple[Question, ...], unreadable: dict[str, str]) -> str:
    shown = [row for row in rows if row.id in unreadable][:EXAMPLES]
    return "; ".join(f"{row.id}: {row.answer!r:.60} {unreadable[row.id]}" for row in shown)


def data_table(profile: Profile) -> Table:
    """Every source with its rows, and what became of each group that is cheap to mix."""
    table = Table(title="questions", title_justify="left")
    for column in ("where", "source", "share", "rows", "no answer", "unreadable answers"):
        table.add_column(column)
    for where, source, group in all_sources(profile):
        looked = sample_of(source, group)
        count = str(len(looked.rows)) if looked.whole else "no end" if not looked.note else "?"
        if looked.rows and not looked.whole and catalogue.is_finite(source.use):
            count = f"the first {len(looked.rows)} looked at"
        table.add_row(
            where, source.use, f"{source.weight:g}{', repeated' if source.upsample else ''}", count,
            str(sum(row.answer is None for row in looked.rows)), str(len(looked.unreadable)),
        )  # fmt: skip
    return table


def data_notes(profile: Profile) -> Iterator[str]:
    """What the table has no room for: sources that are not here, unreadable answers, funnels of files."""
    for where, source, group in all_sources(profile):
        looked = sample_of(source, group)
        if looked.note:
            yield f"{where}: {looked.note}"
        if looked.tried < len(looked.rows):
            yield f"{where}: the answers of {looked.tried} of {len(looked.rows)} rows of {source.use} were tried."
        if looked.unreadable:
            yield (
                f"{where}: {len(looked.unreadable)} of {looked.tried} answers of {source.use} cannot be used, and "
                f"their questions are left out of training. {_examples(looked.rows, looked.unreadable)}"
            )
    yield from _funnels(profile)


def _funnels(profile: Profile) -> Iterator[str]:
    """The funnel of each group of local files, as large as a stage asks for."""
    if any(sample_of(source, group).note for _, source, group in all_sources(profile)):
        yield "Groups are not mixed here, because a source is not on this machine."
        return
    held_out = held_out_texts(profile)
    for name, group in profile.questions.items():
        looked = [sample_of(source, name) for source in group]
        counts = {counts[name] for _, counts in asked_for(profile) if name in counts}
        if not counts or not all(each.whole for each in looked) or sum(len(e.rows) for e in looked) > MOST_CHEAP_ROWS:
            continue
        count = None if None in counts else max(counts)
        if count == 0:
            continue
        _, funnel = mixed_group(profile, name, count, "check", held_out)
        yield f"questions.{name}, for {'every question' if count is None else f'{count} questions'}: {funnel}"
        for reason, examples in funnel.examples.items():
            yield f"  {reason}: {examples[0]!r}"
