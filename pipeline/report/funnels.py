"""What happened to the samples: drops by reason with examples, and lengths of kept and dropped ones."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from data_recipes.cleaning.filters import words
from pipeline.ladder import of_kind
from pipeline.report.records import RunRecord, StageRecord, read_lines
from pipeline.steps.questions import FUNNELS

DATA_STAGES = tuple(stage.id for stage in of_kind("rows"))
EXAMPLES = 3
"""Dropped samples shown of each reason, and rows shown that were kept."""
MOST_READ = 20_000
"""Kept rows, and dropped ones, that lengths and examples are taken from: the first of the file."""
BINS = 20

REASONS = {
    "format": "not in the shape asked for",
    "wrong": "the answer is wrong",
    "no_answer": "no answer was found",
    "gold_unusable": "the question's own answer cannot be read",
    "scorer_failed": "the scorer failed, so nobody can tell",
    "truncated": "cut at the length limit",
    "mixed_language": "the reasoning mixes languages",
    "short_thinking": "too little reasoning",
    "repetition": "repeats itself",
    "long_paragraph": "a paragraph is too long",
    "code_block": "a code block in the reasoning",
    "duplicate": "the same text was kept already",
    "enough_of_this_question": "good, but the question has its rows",
    "enough_rows": "good, but the quota is full",
    "enough_of_this_language": "good, but its language has its share of rows",
    "not_rewritable": "the rewriter could not follow it",
    "cut_off": "the rewriter's answer was cut at its length limit",
    "unfinished": "the rewriter's reasoning never ended",
    "unreadable": "the rewriter's answer has another shape than was asked for",
    "not_answered": "the rewriter did not answer",
}
"""Explanations of reasons whose names are not clear by themselves."""
SPARE = ("duplicate", "enough_of_this_question", "enough_rows", "enough_of_this_language")
"""Reasons for dropping good samples that were not needed."""


def funnel(run: RunRecord, stage_id: str) -> dict[str, Any] | None:
    """Questions, samples, each reason's drops with examples, rows; None where the stage has not finished."""
    stage = run.stages[stage_id]
    metrics = stage.metrics
    if not metrics:
        return None
    dropped = list(islice(_lines(stage, "dropped.jsonl"), MOST_READ))
    examples = _examples(dropped)
    total = metrics["samples"] or 1
    drops = [
        {
            "reason": reason,
            "meaning": REASONS.get(reason.removeprefix("rewriting: "), ""),
            "spare": reason in SPARE,
            "count": count,
            "share": count / total,
            "examples": examples.get(reason, []),
        }
        for reason, count in metrics["dropped"].items()
    ]
    own = (row for row in _lines(stage, "rows.jsonl") if row.get("source") == stage_id)
    sampled = list(islice(own, MOST_READ))
    return {
        "questions": metrics["questions"],
        "samples": metrics["samples"],
        "drops": drops,
        "rows": metrics["rows"],
        "share": metrics["rows"] / total,
        "general_rows": metrics.get("general_rows", 0),
        "kept_examples": [{"question": row["question"], "text": row["response"]} for row in sampled[:EXAMPLES]],
        "lengths": histogram(
            {
                "kept": [len(words(row["response"])) for row in sampled],
                "dropped": [len(words(row["text"])) for row in dropped],
            }
        ),
        "read": MOST_READ if MOST_READ in (len(dropped), len(sampled)) else None,
    }


def question_funnels(run: RunRecord) -> list[dict[str, Any]]:
    """Each stage's groups of questions: rows in, drops by reason with examples, rows out."""
    found = []
    for stage_id, stage in run.stages.items():
        path = stage.folder / FUNNELS if stage.folder else None
        if path and path.is_file():
            groups = json.loads(path.read_text(encoding="utf-8"))
            found += [{"stage": stage_id, "group": name, **figures} for name, figures in groups.items()]
    return found


def _lines(stage: StageRecord, name: str) -> Iterable[dict]:
    path: Path = stage.folder / name
    return read_lines(path) if path.is_file() else ()


def _examples(dropped: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in dropped:
        of_reason = found.setdefault(row["reason"], [])
        if len(of_reason) < EXAMPLES:
            of_reason.append({"question": row["question_id"], "text": row["text"]})
    return found


def histogram(groups: dict[str, list[int]]) -> dict[str, Any] | None:
    """Counts of each group in `BINS` bins of equal width over all of them; None where there is nothing to count.

    The last bin also holds what lies above the 99th percentile, so that one long sample does not flatten the rest.
    """
    everything = sorted(value for values in groups.values() for value in values)
    if not everything:
        return None
    top = everything[min(len(everything) - 1, int(0.99 * len(everything)))]
    width = max(1, -(-(top + 1) // BINS))
    bins = top // width + 1
    counts = {name: [0] * bins for name in groups}
    for name, values in groups.items():
        for value in values:
            counts[name][min(value // width, bins - 1)] += 1
    return {
        "width": width,
        "starts": [i * width for i in range(bins)],
        "counts": counts,
        "most": max(max(values) for values in counts.values()),
        "beyond": everything[-1] >= bins * width,
    }
