"""One group of questions from several sources: cleaned, and mixed by weight."""

import random
from collections.abc import Iterable, Sequence

from data_recipes.cleaning.answers import unreadable_answers
from data_recipes.cleaning.decontamination import HeldOut
from data_recipes.cleaning.duplicates import Duplicates
from data_recipes.cleaning.funnel import QuestionFunnel
from data_recipes.question import Question
from data_recipes.sources import catalogue
from pipeline.config.data import Source
from pipeline.core.errors import ConfigError

MOST_ROUNDS = 6
"""Times that a source which never ends is asked for more in place of what was dropped."""


def mix(
    group: Sequence[Source],
    count: int | None,
    seed: str,
    held_out: HeldOut,
    duplicates: str = "exact",
    similarity: float = 0.8,
) -> tuple[list[Question], QuestionFunnel]:
    """(questions, funnel) of one group, shuffled.

    Dropped are questions that stand twice (`duplicates`: keep, exact or near), those whose answer their verifier cannot
    read, and those that overlap with a held-out set (`Cleaner`). `count` questions are then
    shared out by weight. A finite source with fewer than its share repeats its questions where it says `upsample`;
    else the others give more. One with more gives a random part. `count` None takes every row of finite sources.

    Raises ConfigError where None meets weights or `upsample`, which it leaves no meaning, or a source without end.
    """
    if count is None:
        check_everything(group)
    funnel, cleaner = QuestionFunnel(), Cleaner(held_out, duplicates, similarity)
    ready: dict[int, list[Question]] = {}
    for index, source in enumerate(group):
        if catalogue.is_finite(source.use):
            left_out: list[str] = []
            rows = catalogue.load(source.use, None, f"{seed} {index}", False, source.args, source.group, left_out)
            funnel.rows_in += len(left_out)
            for fault in left_out:
                funnel.drop("unreadable_row", fault)
            ready[index] = cleaner.clean(_named(rows, source, index, group), funnel, source.use)
    available = [len(ready[i]) if i in ready and not source.upsample else None for i, source in enumerate(group)]
    if count is None:
        shares = [len(ready[index]) for index in range(len(group))]
    else:
        shares = share_out(count, [source.weight for source in group], available)
    mixed: list[Question] = []
    for index, (source, share) in enumerate(zip(group, shares, strict=True)):
        if index in ready:
            mixed += _part(ready[index], share, funnel)
        elif share:
            mixed += _endless(source, index, group, share, f"{seed} {index}", cleaner, funnel)
    funnel.rows_out = len(mixed)
    random.Random(f"group {seed}").shuffle(mixed)
    return mixed, funnel


def share_out(count: int, weights: Sequence[float], available: Sequence[int | None]) -> list[int]:
    """How many of `count` each source gives: by weight, at most what is `available` (None: any number).

    What a source cannot give goes to the others by their weights; the sum is `count` unless all together have less.
    """
    shares: dict[int, int] = {}
    while True:
        open_sources = [index for index in range(len(weights)) if index not in shares]
        left, total = count - sum(shares.values()), sum(weights[index] for index in open_sources)
        due, found = 0.0, {}
        for index in open_sources:
            before, due = due, due + left * weights[index] / total
            found[index] = round(due) - round(before)
        short = [i for i, share in found.items() if available[i] is not None and available[i] < share]
        if not short:
            return [{**shares, **found}[index] for index in range(len(weights))]
        shares |= {index: available[index] for index in short}


class Cleaner:
    """Takes out what must not be trained on; remembers what it saw, so that sources of one group clear each other."""

    def __init__(self, held_out: HeldOut, duplicates: str = "exact", similarity: float = 0.8):
        self.held_out, self.keep = held_out, duplicates == "keep"
        self.duplicates = Duplicates(similarity if duplicates == "near" else None)

    def clean(self, rows: Sequence[Question], funnel: QuestionFunnel, use: str) -> list[Question]:
        """The rows of the source `use` that stay, in order; the others go into the funnel.

        Our own recipes give answers that their verifiers can read, and those of the pocket world repeat questions on
        purpose. Near duplicates are taken from finite sources alone: the sums of a recipe differ in a number.
        """
        finite, foreign = catalogue.is_finite(use), use.startswith("reasoning_gym:")
        apart = finite or catalogue.tells_apart(use)
        funnel.rows_in += len(rows)
        unreadable = unreadable_answers(rows) if finite or foreign else {}
        kept = []
        for row in rows:
            reason = self._overlap(row)
            if not reason and row.id in unreadable:
                reason = "unreadable_answer"
            if not reason and apart and not self.keep:
                reason = self.duplicates.reason(row, near=finite)
            if reason:
                funnel.drop(reason, row.question if reason != "unreadable_answer" else f"{row.id}: {row.answer}")
            else:
                kept.append(row)
        return kept

    def _overlap(self, row: Question) -> str:
        for text in (row.whole, row.response):
            name = self.held_out.overlap(text) if text else None
            if name:
                return f"held_out: {name}"
        return ""


def _named(rows: Iterable[Question], source: Source, index: int, group: Sequence[Source]) -> list[Question]:
    """Ids that tell the sources of a group apart, and the domain that the profile gives a source."""
    domain = {} if source.domain is None else {"domain": source.domain}
    if len(group) == 1 and not domain:
        return list(rows)
    ids = (f"{row.id} ({index})" if len(group) > 1 else row.id for row in rows)
    return [row.model_copy(update={"id": own_id, **domain}) for row, own_id in zip(rows, ids, strict=True)]


def _part(rows: list[Question], share: int, funnel: QuestionFunnel) -> list[Question]:
    """`share` of the rows: the first ones, or all of them as often as it takes."""
    for row in rows[share:]:
        funnel.drop("beyond_its_share", row.question)
    if share <= len(rows) or not rows:
        return rows[:share]
    funnel.repeated += share - len(rows)
    again = (rows[i % len(rows)].model_copy(update={"id": f"{rows[i % len(rows)].id} again {i // len(rows)}"})
             for i in range(len(rows), share))  # fmt: skip
    return [*rows, *again]


def _endless(
    source: Source, index: int, group: Sequence[Source], share: int, seed: str, cleaner: Cleaner, funnel: QuestionFunnel
) -> list[Question]:
    """`share` clean questions of a source without end, or fewer where it gives hardly anything clean."""
    kept: list[Question] = []
    asked = 0
    for _ in range(MOST_ROUNDS):
        wanted = asked + 2 * (share - len(kept)) if asked else share
        rows = catalogue.load(source.use, wanted, seed, False, source.args, source.group)[asked:]
        kept += cleaner.clean(_named(rows, source, index, group), funnel, source.use)
        asked = wanted
        if len(kept) >= share:
            break
    return _part(kept, min(share, len(kept)), funnel)


def check_everything(group: Sequence[Source]) -> None:
    weights = {source.weight for source in group}
    if len(weights) > 1 or any(source.upsample for source in group):
        raise ConfigError(
            f"questions: null takes every row of {', '.join(source.use for source in group)}, which leaves weights and "
            "upsample no meaning. Give the number of questions, or leave weight and upsample out."
        )
    for source in group:
        if not catalogue.is_finite(source.use):
            raise ConfigError(f"The source '{source.use}' never ends: give the number of questions instead of null.")
