"""Make preference pairs of a policy's samples, judged by an annotator; what is not used is kept with the reason."""

from collections.abc import Callable, Iterable
from itertools import islice
from random import Random

from data_recipes.question import Question
from data_recipes.written.annotators import Annotator
from data_recipes.written.preferences import Pair, Rejected, make_pairs
from pipeline.config.data import PreferenceSettings
from pipeline.core.console import Progress
from pipeline.core.watchdog import beat, phase
from pipeline.engines import Completion
from pipeline.steps.context import StageContext
from rewards import split_response

PROMPTS_AT_ONCE = 256
"""Prompts whose answers are annotated together."""
ANSWERS = "annotations-{name}.jsonl"
"""The annotator's answers so far, which an interrupted run continues from."""


def judged_pairs(
    ctx: StageContext,
    name: str,
    settings: PreferenceSettings,
    annotator: Annotator,
    samples: Iterable[tuple[Question, list[Completion]]],
    rng: Random,
) -> tuple[list[Pair], list[Rejected], list[str]]:
    """(pairs, pairs not used, questions without a finished answer) of a scorer called `name`."""
    pairs: list[Pair] = []
    rejected: list[Rejected] = []
    unfinished: list[str] = []
    samples = iter(samples)
    while some := list(islice(samples, PROMPTS_AT_ONCE)):
        answers = [(question.question, _finished(completions)) for question, completions in some]
        unfinished += [question for question, found in answers if not found]
        answered = [(question, found) for question, found in answers if found]
        calls = [
            (question, answer_of(text))
            for question, found in answered
            for text in dict.fromkeys(found)
            for _ in range(settings.judgements)
        ]
        with phase("annotation"), ctx.progress(f"annotating {name}", len(calls)) as bar:
            annotator.prepare(calls, ctx.folder / ANSWERS.format(name=name), count_on(bar))
        for question, found in answered:
            kept, not_kept = make_pairs(
                question, found, answer_of, annotator, settings.judgements, settings.min_gap, rng
            )  # fmt: skip
            pairs += kept
            rejected += not_kept
    return pairs, rejected, unfinished


def count_on(bar: Progress) -> Callable[[], None]:
    """Count one answer of a server: resets the watchdog and advances the bar."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        beat()
        bar.update(done)

    return one_more


def answer_of(text: str) -> str:
    """Return the part of a completion that a reader sees."""
    return split_response(text).answer.strip()


def _finished(completions: Iterable[Completion]) -> list[str]:
    return [completion.text for completion in completions if completion.finish_reason == "stop"]
