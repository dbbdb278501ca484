"""Verifying answers to reasoning-gym questions with the scorer that the question's own data set brings.

Some of those scorers evaluate the answer as Python. For them an answer has to be plain data or arithmetic first; one
that calls, imports or reaches into objects is wrong without being evaluated.
"""

import ast
import functools
import importlib.util
import inspect
import json
import re
from typing import Any

from rewards.contract import RewardError
from rewards.grading.answers import final_answers, unwrap
from rewards.grading.verdict import Verdict
from rewards.grading.verifiers import Job, Judged
from rewards.response import answer_blocks, segments

EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\(")
CALLED = re.compile(r"([A-Za-z_]\w*)\s*\(")
FUNCTIONS = frozenset(("sin", "cos", "tan", "exp", "log", "sqrt", "asin", "acos", "atan", "sinh", "cosh", "tanh"))
REACHES = re.compile(r"__|\.\s*[A-Za-z_]|[\])'\"]\s*\(|\b(?:lambda|for|if|import|await|yield)\b|:=")
MAX_ANSWER = 5000
"""Characters of an answer that a scorer evaluates."""


def reasoning_gym(text: str, row: dict[str, Any]) -> Judged:
    """Full marks from the reasoning-gym scorer of the data set named in `metadata.source_dataset`.

    Many tasks ask for an answer in prose, or compare it with its full stop and its quotes: what an `<answer>` block
    holds counts as it is written too, and where nothing is marked as the answer, the whole answer part does if it is
    right and says no more than the gold answer does; if not, no answer was found.
    """
    require()
    metadata = row.get("metadata")
    if isinstance(metadata, str):
        metadata = read_metadata(metadata)
    if not isinstance(metadata, dict) or not metadata.get("source_dataset"):
        return Verdict.GOLD_UNUSABLE
    entry = {"question": row.get("question"), "answer": row.get("answer"), "metadata": metadata}
    payload = {"data_set": metadata["source_dataset"], "entry": entry}
    stated = stated_forms(text)
    payload["otherwise"] = Verdict.WRONG if stated else Verdict.NO_ANSWER
    if not stated:
        whole = segments(text)[1][-1].strip()
        if not 0 < len(whole.split()) <= len(str(row.get("answer") or "").split()) or "<answer>" in whole:
            return Verdict.NO_ANSWER
        stated = [[whole]]
    return [
        Job("rewards.grading.gym:check", {**payload, "forms": forms}, deadline_s=30.0, cpu_s=5.0) for forms in stated
    ]


@functools.cache
def require() -> None:
    """Raises RewardError where reasoning-gym is not installed."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise RewardError(
            "rows with the verifier reasoning_gym need the package reasoning-gym, which is not installed. "
            "Run `make setup EXTRAS=puzzles`."
        )


def stated_forms(text: str) -> list[list[str]]:
    """The explicit answers that a completion stands by, each in the forms in which it may be meant."""
    blocks = [block.strip() for piece in segments(text)[1] for block in answer_blocks(piece)]
    return [
        list(dict.fromkeys([answer, *(block for block in blocks if unwrap(block) == answer)]))
        for answer in final_answers(text)
    ]


def read_metadata(text: str) -> Any:
    """Metadata written as JSON or as a Python literal; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def check(payload: dict[str, Any]) -> str:
    """Score one answer in its forms, the best of which counts; for a worker process only."""
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    if payload["data_set"] not in DATASETS:
        return Verdict.GOLD_UNUSABLE
    score = get_score_answer_fn(payload["data_set"])
    forms = [form for form in payload["forms"] if harmless(form) or not evaluates(payload["data_set"])]
    return Verdict.CORRECT if any(score(form, payload["entry"]) >= 1.0 for form in forms) else payload["otherwise"]


def prepare() -> None:
    """Import reasoning-gym, which takes over a second, before the first deadline runs."""
    import reasoning_gym.factory  # noqa: F401


@functools.cache
def evaluates(data_set: str) -> bool:
    """Whether the data set's code evaluates text as Python."""
    from reasoning_gym.factory import DATASETS

    return bool(EVALUATES.search(inspect.getsource(inspect.getmodule(DATASETS[data_set][0]))))


def harmless(answer: str) -> bool:
    """Whether the answer, evaluated, can do no more than arithmetic and containers."""
    if len(answer) > MAX_ANSWER or REACHES.search(answer):
        return False
    return all(name in FUNCTIONS for name in CALLED.findall(answer))
