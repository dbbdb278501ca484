"""Verdicts for completions: what can be settled at once is, and the rest goes to the pool, each question only once.

Completions of one group often end in the same answer to the same question, so jobs that are equal are done once, and
settled jobs are remembered for the next call.
"""

import hashlib
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.sandbox.levels import SandboxError
from pipeline.sandbox.probe import require
from rewards.columns import column, rows_of
from rewards.contract import RewardError
from rewards.grading import pool
from rewards.grading.code import code
from rewards.grading.custom_verifier import custom
from rewards.grading.gym import reasoning_gym
from rewards.grading.verdict import Verdict
from rewards.grading.verifiers import Job, Judged, choice, countdown, exact, math, worst
from rewards.response import whole_text

VERIFIERS: dict[str, Callable[[str, dict[str, Any]], Judged]] = {
    "math": math,
    "exact": exact,
    "choice": choice,
    "countdown": countdown,
    "code": code,
    "reasoning_gym": reasoning_gym,
    "custom": custom,
}
"""The verifiers that a row can name."""

MAX_REMEMBERED = 50_000
"""Verdicts kept for later calls."""

remembered: OrderedDict[bytes, Verdict] = OrderedDict()
_memory_lock = threading.Lock()
_background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judging")


def judge_answer(text: str, row: Mapping[str, Any], allow_weak_sandbox: bool = False) -> Verdict:
    """The verdict on one completion. For many, `judge_answers` is far faster."""
    return judge_answers([text], [row], allow_weak_sandbox)[0]


def judge_answers(
    texts: Sequence[str], rows: Sequence[Mapping[str, Any]], allow_weak_sandbox: bool = False
) -> list[Verdict]:
    """The verdict on each completion against its question row, in order; `row["verifier"]` names one of `VERIFIERS`.

    Raises `RewardError` for an unknown verifier, and for code on a weak sandbox level without consent; never for
    anything that a completion says.
    """
    judged = []
    for text, row in zip(texts, rows, strict=True):
        check_row(row, allow_weak_sandbox)
        judged.append(VERIFIERS[row["verifier"]](text, dict(row)))
    settled = do_jobs([job for verdict in judged if not isinstance(verdict, Verdict) for job in verdict])
    return [
        verdict if isinstance(verdict, Verdict) else worst([settled[key(job)] for job in verdict]) for verdict in judged
    ]


def check_row(row: Mapping[str, Any], allow_weak_sandbox: bool) -> None:
    """Refuse a row that no verifier here can or may judge."""
    if row.get("verifier") not in VERIFIERS:
        known = ", ".join(VERIFIERS)
        raise RewardError(f"row {row.get('id', '?')}: verifier {row.get('verifier')!r} is not one of {known}")
    if row["verifier"] == "code":
        try:
            require(allow_weak_sandbox)
        except SandboxError as error:
            raise RewardError(str(error)) from error


def prefetch(
    texts: Sequence[str], rows: Sequence[Mapping[str, Any]], allow_weak_sandbox: bool = False
) -> Future[list[Verdict]]:
    """Judge completions in the background, say those that are finished while others are still being generated.

    A later call that asks for the same verdicts finds them remembered, or waits for them.
    """
    return _background.submit(judge_answers, texts, rows, allow_weak_sandbox)


def do_jobs(jobs: Sequence[Job]) -> dict[bytes, Verdict]:
    """The verdict of each distinct job, by its key. A failure is not remembered: the machine may have been busy."""
    wanted = {key(job): job for job in jobs}
    with _memory_lock:
        settled = {known: remembered[known] for known in wanted if known in remembered}
        new = {known: job for known, job in wanted.items() if known not in settled}
        outcomes = pool.shared().run(list(new.values())) if new else []
        for known, outcome in zip(new, outcomes, strict=True):
            settled[known] = Verdict.SCORER_FAILED if outcome.failure else Verdict(outcome.value)
            if not outcome.failure:
                remembered[known] = settled[known]
        while len(remembered) > MAX_REMEMBERED:
            remembered.popitem(last=False)
    return settled


def key(job: Job) -> bytes:
    """What makes two jobs the same: a digest, since what a job carries may be megabytes of tests."""
    return hashlib.blake2b(pickle.dumps((job.function, job.payload)), digest_size=20).digest()


def judge_columns(
    reward: str, prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any], allow_weak_sandbox: bool
) -> list[Verdict | None]:
    """The verdict on each completion whose row names a verifier, None for the others."""
    judged, texts, rows = to_judge(reward, prompts, completions, columns)
    verdicts: list[Verdict | None] = [None] * len(completions)
    for index, verdict in zip(judged, judge_answers(texts, rows, allow_weak_sandbox), strict=True):
        verdicts[index] = verdict
    return verdicts


def to_judge(
    reward: str, prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]
) -> tuple[list[int], list[str], list[dict[str, Any]]]:
    """Of the completions whose row names a verifier: their numbers, their whole texts and their rows."""
    rows = rows_of(columns, len(completions))
    judged = [index for index, verifier in enumerate(column(reward, columns, "verifier")) if verifier]
    return judged, [whole_text(prompts[i], completions[i]) for i in judged], [rows[i] for i in judged]
