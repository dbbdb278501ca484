"""Preference pairs: which of two answers to one question an annotator likes better."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

Annotator = Callable[[str, str], float | None]
"""(question, answer as a reader sees it) -> score 0..10, or None where there is none. Called several times for one
answer; it may vary."""


@dataclass(frozen=True)
class Pair:
    question: str
    chosen: str
    rejected: str
    gap: float
    """Mean score of the chosen answer minus that of the rejected one, 0..10."""


@dataclass(frozen=True)
class Rejected:
    """A pair that is not used, with the reason: same_answer, small_gap, length_balance, not_scored (fewer than two
    answers have a score)."""

    pair: Pair
    reason: str

    def row(self) -> dict:
        return {**asdict(self.pair), "reason": self.reason}


def make_pairs(
    question: str, answers: Sequence[str], read: Callable[[str], str], annotator: Annotator, judgements: int,
    min_gap: float, rng: random.Random,
) -> tuple[list[Pair], list[Rejected]]:  # fmt: skip
    """The best answer against each other one, all judged `judgements` times in random order.

    `read` gives what the annotator reads of an answer. Kept where the gap is over `min_gap` (DeepSeek-R1, section on
    the helpful reward model: four judgements, gap over 1). A judgement without a score does not count.
    """
    unique = list(dict.fromkeys(answers))
    order = unique * judgements
    rng.shuffle(order)
    scores: dict[str, list[float]] = {answer: [] for answer in unique}
    for answer in order:
        score = annotator(question, read(answer))
        if score is not None:
            scores[answer].append(score)
    if len(unique) == 1:
        return [], [Rejected(Pair(question, unique[0], unique[0], 0.0), "same_answer")]
    means = {answer: sum(found) / len(found) for answer, found in scores.items() if found}
    if len(means) < 2:
        return [], [Rejected(Pair(question, unique[0], unique[1], 0.0), "not_scored")]
    best = max(means, key=means.get)
    pairs = [Pair(question, best, other, means[best] - means[other]) for other in means if other != best]
    return (
        [pair for pair in pairs if pair.gap > min_gap],
        [Rejected(pair, "small_gap") for pair in pairs if pair.gap <= min_gap],
    )


def split_by_question(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """(pairs to train on, pairs held back): of the questions in their order as many as it takes to hold back `share` of
    the pairs, each with all of its pairs, since those of one question have a chosen answer in common.

    One question at least is left to train on.
    """
    counts = Counter(pair.question for pair in pairs)
    held, wanted = set(), int(len(pairs) * share)
    for question in list(counts)[:-1]:
        if wanted <= 0:
            break
        held.add(question)
        wanted -= counts[question]
    return [pair for pair in pairs if pair.question not in held], [pair for pair in pairs if pair.question in held]


def balance_lengths(
    pairs: Sequence[Pair], length: Callable[[str], int], rng: random.Random
) -> tuple[list[Pair], list[Rejected]]:
    """Drops pairs until the chosen answer is the longer one as often as it is the shorter one, so that length alone
    tells nothing. Pairs of equal length stay."""
    longer = [p for p in pairs if length(p.chosen) > length(p.rejected)]
    shorter = [p for p in pairs if length(p.chosen) < length(p.rejected)]
    many, few = (longer, shorter) if len(longer) > len(shorter) else (shorter, longer)
    dropped = set(map(id, rng.sample(many, len(many) - len(few))))
    return (
        [p for p in pairs if id(p) not in dropped],
        [Rejected(p, "length_balance") for p in pairs if id(p) in dropped],
    )
