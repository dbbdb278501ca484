"""Answers that need no thought, tried on reasoning-gym questions: constants, copies of the question, changed golds.

A task that one constant answer solves, or a copy of something that stands in the question, teaches a policy that answer
and nothing else. `python -m benchmarks.gym` tries every task and writes what it finds to `gym_shortcuts.json`; `make
check` tries the best of them again on the questions of a profile, which may have arguments of their own.
"""

import ast
import json
import re
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

from rewards.grading.gym import evaluate_nothing, full_marks, prepare, stated_forms
from rewards.grading.number_words import read_number

__all__ = ["prepare", "tried"]  # what a worker process calls
Entry = dict[str, Any]
RECORDED = Path(__file__).with_name("gym_shortcuts.json")
CONSTANTS = (
    "0", "1", "-1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "16", "20", "24", "42", "100", "1000", "0.0",
    "0.1", "0.25", "0.5", "0.75", "1.0", "1/2", "nan", "inf", "-inf", "1e9", "0i", "True", "False", "true", "false",
    "Yes", "No", "yes", "no", "None", "null", "[]", "[[]]", "[[0]]", "[0]", "[1]", "[0, 1]", "[1, 2, 3]", "{}", "()",
    "(0, 0)", '""', "0 0", "0 1", "1 0", "0,0", "A", "B", "C", "D", "E", "a", "b", "x", "y", "X", "-", ".", "?", "*",
    "+", "impossible", "infeasible", "not possible", "no solution", "unsolvable", "unknown", "I don't know", "N/A",
    "the answer", "0*x", "x", "2*x", "x**2", "x + C", "6*4*1*1", "U", "D L", "R", "0:00", "00:00", "0 days", "Monday",
    "Sunday", "knight", "knave", "black", "white", "red", "hello", "the",
)  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:\.[0-9]+)?(?![\w.]*[0-9])")
BRACKETS = re.compile(r"\[[^\[\]\n]{1,2000}\]")
QUOTED = re.compile(r"""(?<!\w)(?:"([^"\n]{1,500})"|'([^'\n]{1,500})'|`([^`\n]{1,500})`)(?!\w)""")
GOLD = "the gold answer"
CHANGES = (
    "denied", "hedged", "with another behind `or`", "with a word before it", "with a word behind it",
    "with the other sign", "cut off at the point",
)  # fmt: skip
"""What `changed` does to a gold answer."""
MOST_COPIED = 4000
"""Characters of a question beyond which no whole copy of it is tried."""


def copies(question: str) -> dict[str, str]:
    """What can be copied out of a question without understanding it: by name."""
    lines = [line.strip() for line in question.splitlines() if line.strip()]
    blocks = [block.strip() for block in re.split(r"\n\s*\n", question) if block.strip()]
    found = {"its first line": lines[0], "its last line": lines[-1]} if lines else {}
    if len(blocks) > 1:
        found |= {"its last paragraph": blocks[-1], "its second paragraph": blocks[1]}
    if len(question) <= MOST_COPIED:
        found["the question"] = question
    if ":" in question:
        found["what stands behind its last colon"] = question.rpartition(":")[2].strip()
        found["what stands behind its first colon"] = question.partition(":")[2].strip()
    for name, texts in (
        ("number", NUMBER.findall(question)),
        ("list", BRACKETS.findall(question)),
        ("quoted text", [next(filter(None, groups), "") for groups in QUOTED.findall(question)]),
    ):
        if texts:
            found |= {f"its first {name}": texts[0], f"its last {name}": texts[-1]}
    numbers = NUMBER.findall(question)
    if numbers:
        found |= {"its largest number": max(numbers, key=Fraction), "its smallest number": min(numbers, key=Fraction)}
    return {name: text for name, text in found.items() if text}


def constant_label(constant: str) -> str:
    return f"the constant {constant!r}"


def constant_of(label: str) -> str | None:
    """The constant that a label names; None of a copy."""
    return ast.literal_eval(label.removeprefix("the constant ")) if label.startswith("the constant ") else None


def changed(gold: str) -> dict[str, str]:
    """Answers made of the gold answer that do not say it, or not it alone: by what was done to it."""
    denied, hedged, another, before, behind, other_sign, cut_off = CHANGES
    found = {denied: f"not {gold}", hedged: f"maybe {gold}", another: f"{gold} or {gold}7"}
    found |= {before: f"banana {gold}", behind: f"{gold} banana"}
    number = read_number(gold) if re.fullmatch(r"\s*-?[0-9.,/]+\s*", gold) else None
    if number is not None and number.value:
        found[other_sign] = gold.strip()[1:] if gold.strip().startswith("-") else f"-{gold.strip()}"
        whole, point, decimals = gold.strip().partition(".")
        if point and decimals.strip("0"):
            found[cut_off] = whole or "0"
    return found


def credited(name: str, answer: str, entry: Entry) -> bool:
    """Whether the answer in an `<answer>` block gets full marks. What its scorer cannot judge gets none."""
    stated = stated_forms(f"<answer>{answer}</answer>")
    try:
        return bool(stated) and all(any(full_marks(name, form, entry) for form in forms) for forms in stated)
    except Exception:
        return False


def tried(payload: dict[str, Any]) -> dict[str, list[int]]:
    """Label -> [credited, tried] over `entries` of the task `name`; for a worker process only.

    With `labels` only these. Ends after `seconds` of computing, so that a slow scorer is tried on fewer questions. The
    most frequent gold answer of the first half of the entries is a constant too; it counts on the other half.
    """
    evaluate_nothing()
    entries, wanted = payload["entries"], payload.get("labels")
    counts: dict[str, list[int]] = {}
    golds = Counter(str(entry["answer"]) for entry in entries[: len(entries) // 2] if entry.get("answer") is not None)
    usual = golds.most_common(1)[0][0] if golds else None
    ends = time.process_time() + payload["seconds"]
    for place, entry in enumerate(entries):
        if time.process_time() > ends:
            break
        name, gold = entry["metadata"]["source_dataset"], entry.get("answer")
        answers = {constant_label(constant): constant for constant in CONSTANTS}
        answers |= {label: constant for label in wanted or () if (constant := constant_of(label)) is not None}
        if usual is not None and place >= len(entries) // 2:
            answers[constant_label(usual)] = usual
        answers |= copies(entry["question"])
        if gold is not None and (wanted is None or not set(wanted).isdisjoint(CHANGES)):
            answers |= {GOLD: str(gold), **changed(str(gold))}
        for label, answer in answers.items():
            if wanted is None or label in wanted:
                count = counts.setdefault(label, [0, 0])
                count[0] += credited(name, answer, entry)
                count[1] += 1
    return counts


def recorded() -> dict[str, Any]:
    """What the last scan of every task found: task -> its figures."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))["tasks"]
