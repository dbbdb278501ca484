"""The adversarial corpus: every completion gets exactly the verdict that it must get."""

import importlib.util
import time
from collections import OrderedDict
from pathlib import Path

import psutil
import pytest

from pipeline.core.files import read_json_lines
from rewards import Verdict, judge_answers
from rewards.grading import judging, pool

CORPUS = Path(__file__).with_name("corpus")
DEADLINE_S = 10.0
"""The deadline of one mathematical comparison."""


def cases_of(name):
    """The cases of one corpus file."""
    specification = importlib.util.spec_from_file_location(f"corpus_{name}", CORPUS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.CASES


def well_formed(answer):
    return f"<think> Let me work it out. </think> <answer> {answer} </answer>"


MATHEMATICS = [
    ({"verifier": "math", "answer": gold}, well_formed(answer), verdict, why)
    for gold, answer, verdict, why in cases_of("mathematics")
]
EXTRACTION = [
    ({"verifier": verifier, "answer": gold}, completion, verdict, why)
    for verifier, gold, completion, verdict, why in cases_of("extraction")
]
CODE = cases_of("code")
CHOICES = [(row, well_formed(answer), verdict, why) for row, answer, verdict, why in cases_of("choices")]


@pytest.mark.parametrize(
    "cases", [MATHEMATICS, EXTRACTION, CHOICES, CODE], ids=["mathematics", "extraction", "choices", "code"]
)
def test_every_verdict_is_as_stated(cases):
    verdicts = judge_answers([completion for _, completion, _, _ in cases], [row for row, _, _, _ in cases])
    wrongly_judged = [
        f"{why}: gold {row.get('answer')!r}, completion {completion[:120]!r}: {verdict} instead of {stated}"
        for (row, completion, stated, why), verdict in zip(cases, verdicts, strict=True)
        if verdict != Verdict(stated)
    ]
    assert not wrongly_judged, "\n".join(wrongly_judged)


def test_what_is_right_is_credited_and_nothing_else():
    """Answers in prose, in other forms and of other kinds, each labelled before it was judged."""
    rows = [row for _, row in read_json_lines(CORPUS / "families.jsonl")]
    verdicts = judge_answers([f"<think> a </think> {row['text']}" for row in rows], rows)
    wrongly_judged = [
        f"gold {row['answer']!r}, {row['text'][-160:]!r}: {verdict}"
        for row, verdict in zip(rows, verdicts, strict=True)
        if (verdict is Verdict.CORRECT) != row["right"] or verdict.score is None
    ]
    assert not wrongly_judged, "\n".join(wrongly_judged)


def cpu_seconds_of_workers():
    """What supervisors and their children have computed so far, those among them that are gone included."""
    supervisors = [psutil.Process(pid) for pid in pool.shared().pids()]
    children = [child.cpu_times()[:2] for supervisor in supervisors for child in supervisor.children()]
    return sum(map(sum, children)) + sum(sum(supervisor.cpu_times()[:4]) for supervisor in supervisors)


def test_no_case_computes_longer_than_its_deadline_and_a_second(monkeypatch):
    monkeypatch.setattr(judging, "remembered", OrderedDict())
    judge_answers(["\\boxed{\\sqrt{8}}"], [{"verifier": "math", "answer": "2\\sqrt{2}"}])  # the workers are warm
    slow = []
    for row, completion, _, why in MATHEMATICS + EXTRACTION + CHOICES:
        began = time.process_time() + cpu_seconds_of_workers()
        judge_answers([completion], [row])
        if time.process_time() + cpu_seconds_of_workers() - began > DEADLINE_S + 1:
            slow.append(why)
    assert not slow


def test_the_corpus_is_large():
    assert len(MATHEMATICS) + len(EXTRACTION) + len(CHOICES) + len(CODE) >= 300
