"""Figures about sampled answers: pass@1 with its interval, pass@k, cons@k, format, language, length."""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from data_recipes.pocket import general
from data_recipes.question import Question
from data_recipes.sources.benchmarks import described
from pipeline.config.stages import EvaluateStage
from pipeline.core.errors import RunError
from pipeline.engines import Completion
from rewards import Verdict, judge_answers, language_share, split_response, votes

REFLECTION = re.compile(r"\bwait\b|\bcheck again\b|\blet me (?:re)?check\b|等等|再检查|等一下", re.IGNORECASE)
"""Phrases of a second look, counted as the paper counted "wait" (DeepSeek-R1, figure on reflective words)."""
CONSENSUS_DRAWS = 64
"""Random orders of a question's samples over whose first k cons@k is averaged, the same orders for every k."""
Z_95 = 1.959964
QUALITY = "quality"
"""Stands for a verdict if answers are graded: pass@k is not defined for grades."""


@dataclass(frozen=True)
class Sample:
    """One judged answer. `score` is 0 or 1 for accuracy, 0..1 for quality; None where no scorer could tell."""

    question_id: str
    score: float | None
    verdict: str
    vote: str | None
    well_formed: bool
    language_share: float | None
    tokens: int
    truncated: bool
    text: str


def score_samples(
    questions: Sequence[Question],
    groups: Sequence[Sequence[Completion]],
    metric: str,
    template: str,
    allow_weak_sandbox: bool = False,
) -> list[list[Sample]]:
    """The judged samples of each question, in order. `template` (`r1_zero` or `chat`) decides the format."""
    columns = [question.columns() for question, group in zip(questions, groups, strict=True) for _ in group]
    texts = [completion.text for group in groups for completion in group]
    verdicts = judge_answers(texts, columns, allow_weak_sandbox) if metric == "accuracy" else [None] * len(texts)
    found = iter(verdicts)
    return [
        [
            _judged(question, completion, next(found), template, vote)
            for completion, vote in zip(group, _votes(question, group, metric), strict=True)
        ]
        for question, group in zip(questions, groups, strict=True)
    ]


def _votes(question: Question, group: Sequence[Completion], metric: str) -> list[str | None]:
    """What each sample of a question votes for."""
    if metric != "accuracy":
        return [None] * len(group)
    return votes([completion.text for completion in group], question.columns())


def _judged(
    question: Question, completion: Completion, verdict: Verdict | None, template: str, vote: str | None
) -> Sample:
    response = split_response(completion.text)
    if verdict is None:
        score, name = _quality(question, response.answer), QUALITY
    else:
        undecided = verdict in (Verdict.GOLD_UNUSABLE, Verdict.SCORER_FAILED)
        score = None if undecided else float(verdict is Verdict.CORRECT)
        name = str(verdict)
    return Sample(
        question_id=question.id,
        score=score,
        verdict=name,
        vote=vote,
        well_formed=response.well_formed and ("<answer>" in completion.text) == (template == "r1_zero"),
        language_share=language_share(completion.text, question.language),
        tokens=len(completion.token_ids),
        truncated=completion.finish_reason == "length",
        text=completion.text,
    )


def _quality(question: Question, answer: str) -> float:
    """1 for an answer that is right, whole and polite, else 0, by the pocket world's ground truth."""
    request = general.request_of(question.question)
    return float(request is not None and general.quality(request, answer.strip()) == 1.0)


def judged_rows(questions: Sequence[Question], groups: Sequence[Sequence[Sample]]) -> list[dict[str, Any]]:
    """One row a sample, with its question, as `samples/` and `heldout/` hold them."""
    return [
        {"question": question.question, "answer": question.answer, "language": question.language, **asdict(sample)}
        for question, group in zip(questions, groups, strict=True)
        for sample in group
    ]


def summarise(groups: Sequence[Sequence[Sample]], consensus: Sequence[int]) -> dict[str, Any]:
    """Every figure of one checkpoint on one set.

    `pass@1` is the mean over questions of the share of right samples; `low` and `high` bound it with 95 % confidence
    over questions. `language_consistency` is the mean share of words in the question's language over the answers that
    have words to reason with; `mixed` the share of those below 95 %. Samples that no scorer could judge are left out
    of pass@k, abstain from cons@k, and are counted as `unjudged`. pass@k and cons@k for the k of `consensus` are each
    over the same questions for every k: pass@k over those with as many judged samples as the largest k asks for.

    Raises RunError where samples are there and none could be judged: that says nothing about the model.
    """
    judged = [[s for s in group if s.score is not None] for group in groups]
    rates = [sum(s.score for s in group) / len(group) for group in judged if group]
    samples = [s for group in groups for s in group]
    if samples and not rates:
        raise RunError(
            f"None of {len(samples)} answers could be judged ({samples[0].verdict}, for the first, to the question "
            f"'{samples[0].question_id}'), so there is no pass@1. `make check` tries the gold answers of every set; "
            "a verifier that fails says why in the log."
        )
    shares = [s.language_share for s in samples if s.language_share is not None]
    low, high = interval(rates)
    figures = {
        "pass@1": _mean(rates),
        "low": low,
        "high": high,
        "questions": len(groups),
        "samples": len(samples),
        "format": _mean([s.well_formed for s in samples]),
        "language_consistency": _mean(shares) if shares else None,
        "mixed": _mean([share < 0.95 for share in shares]) if shares else None,
        "reflection": _mean([bool(REFLECTION.search(s.text)) for s in samples]),
        "mean_tokens": _mean([s.tokens for s in samples]),
        "truncated": _mean([s.truncated for s in samples]),
        "unjudged": sum(s.score is None for s in samples),
    }
    voting = [group for group, some in zip(groups, judged, strict=True) if some]
    drawn = [k for k in consensus if voting and min(map(len, voting)) >= k]
    if any(s.vote is not None for group in voting for s in group):
        figures |= {f"cons@{k}": _mean([consensus_at(group, k) for group in voting]) for k in drawn}
    told = [group for group in judged if len(group) >= max(drawn, default=1)]
    if told and told[0][0].verdict != QUALITY:
        figures |= {f"pass@{k}": _mean([pass_at(group, k) for group in told]) for k in drawn if k > 1}
    return figures


def pass_at(group: Sequence[Sample], k: int) -> float:
    """Chance that of k of the group's samples, drawn without replacement, at least one is right: pass@k without bias,
    1 - C(n-c, k) / C(n, k) for c right ones of n (Chen et al. 2021, arXiv 2107.03374, equation 1)."""
    wrong = sum(s.score == 0.0 for s in group)
    return 1 - math.comb(wrong, k) / math.comb(len(group), k)


def settings_in_words(evaluation: EvaluateStage, name: str, questions: int) -> str:
    """Describe how the set was measured, completely enough to repeat it."""
    chosen, sampling = evaluation.sets[name], evaluation.sampling
    return (
        f"{described(chosen.source.use, chosen.source.args)}: {questions} questions × {chosen.samples} samples, "
        f"temperature {sampling.temperature}, top-p {sampling.top_p}, at most {sampling.max_tokens} tokens, "
        f"seed {evaluation.seed}"
    )


def interval(rates: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean of per-question rates (each 0..1).

    Wilson's score interval with the effective number of trials p(1-p)/se², se being the standard error of the mean
    over questions (Korn and Graubard 1998); the number of questions where the rates do not vary. So samples of one
    question do not count as independent, and an interval at 0 or 1 still has a width.
    """
    n = len(rates)
    if n == 0:
        return 0.0, 1.0
    p = _mean(rates)
    variance = sum((rate - p) ** 2 for rate in rates) / (n - 1) if n > 1 else 0.0
    return wilson(p, p * (1 - p) / (variance / n) if variance > 0 else float(n))


def wilson(p: float, trials: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share `p` of so many independent trials."""
    spread = Z_95**2 / trials
    centre = (p + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(p * (1 - p) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def consensus_at(group: Sequence[Sample], k: int) -> float:
    """Chance that the majority vote of k samples of the group is right: cons@k (the paper's maj@k).

    Samples without an answer, and those that no scorer could judge, do not vote. A tie counts as the share of right
    answers among those that lead. Exact for one and two samples and for all of them; between, the mean over random
    orders that are the question's own and nested, so that a larger k adds voters to the same ones.
    """
    if k >= len(group):
        return _vote(group)
    if k <= 2:
        return _mean([_vote(chosen) for chosen in combinations(group, k)])
    draw = random.Random(f"cons {group[0].question_id}")
    return _mean([_vote(draw.sample(group, len(group))[:k]) for _ in range(CONSENSUS_DRAWS)])


def _vote(group: Sequence[Sample]) -> float:
    votes: Counter[str] = Counter(s.vote for s in group if s.vote is not None and s.score is not None)
    right = {s.vote for s in group if s.score == 1.0}
    most = max(votes.values(), default=0)
    leaders = [vote for vote, count in votes.items() if count == most]
    return _mean([vote in right for vote in leaders])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
