"""Verifying answers to reasoning-gym questions with the scorer that the question's own data set brings.

Some of those scorers evaluate the answer as Python. For them an answer has to be plain data or arithmetic first; one
that calls, imports or reaches into objects is wrong without being evaluated.
"""

import ast
import functools
import inspect
import json
import re
from typing import Any

from rewards.verdict import Verdict
from rewards.verifiers import Job, each_answer

EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\(")
CALLED = re.compile(r"([A-Za-z_]\w*)\s*\(")
FUNCTIONS = frozenset(("sin", "cos", "tan", "exp", "log", "sqrt", "asin", "acos", "atan", "sinh", "cosh", "tanh"))
REACHES = re.compile(r"__|\.\s*[A-Za-z_]|[\])'\"]\s*\(|\b(?:lambda|for|if|import|await|yield)\b|:=")
MAX_ANSWER = 5000
"""Characters of an answer that a scorer evaluates."""


@each_answer
def reasoning_gym(answer: str, row: dict[str, Any]) -> Verdict | Job:
    """Full marks from the reasoning-gym scorer of the data set named in `metadata.source_dataset`."""
    metadata = row.get("metadata")
    if isinstance(metadata, str):
        metadata = read_metadata(metadata)
    if not isinstance(metadata, dict) or not metadata.get("source_dataset"):
        return Verdict.GOLD_UNUSABLE
    entry = {"question": row.get("question"), "answer": row.get("answer"), "metadata": metadata}
    payload = {"data_set": metadata["source_dataset"], "answer": answer, "entry": entry}
    return Job("rewards.gym:check", payload, deadline_s=30.0, cpu_s=5.0)


def read_metadata(text: str) -> Any:
    """Metadata written as JSON or as a Python literal; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def check(payload: dict[str, Any]) -> str:
    """Score one answer; for a worker process only."""
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    if payload["data_set"] not in DATASETS:
        return Verdict.GOLD_UNUSABLE
    if evaluates(payload["data_set"]) and not harmless(payload["answer"]):
        return Verdict.WRONG
    score = get_score_answer_fn(payload["data_set"])(payload["answer"], payload["entry"])
    return Verdict.CORRECT if score >= 1.0 else Verdict.WRONG


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
