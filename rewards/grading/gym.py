"""Verifying answers to reasoning-gym questions with the scorer that the question's own data set brings.

Some of those scorers evaluate the answer as Python, and some pay for what was not asked; for those there are strict
ones (`rewards.grading.gym_scorers`). In the workers the names `eval`, `exec` and `parse_expr` of reasoning-gym's tasks
are functions that read literals and arithmetic and evaluate nothing.
"""

import ast
import dataclasses
import functools
import importlib.util
import json
import sys
import types
from typing import Any

from rewards.contract import RewardError
from rewards.grading.answers import final_answers
from rewards.grading.gym_scorers import SCORERS, SHAPES, safe_expression, safe_value, takes_back
from rewards.grading.marks import unwrap
from rewards.grading.verdict import Verdict
from rewards.grading.verifiers import Job, Judged
from rewards.response import answer_blocks, segments

MAX_ANSWERS = 8
"""Different answers; a completion that gives more has no right one."""


def reasoning_gym(text: str, row: dict[str, Any]) -> Judged:
    """Full marks from the scorer of the data set named in `metadata.source_dataset`, with the arguments it was made by.

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
    if len(stated) > MAX_ANSWERS:
        return Verdict.WRONG
    payload["otherwise"] = Verdict.WRONG if stated else Verdict.NO_ANSWER
    if not stated:
        whole = segments(text)[1][-1].strip()
        if not 0 < len(whole.split()) <= len(str(row.get("answer") or "").split()) or "<answer>" in whole:
            return Verdict.NO_ANSWER
        stated = [[whole]]
    return [
        Job("rewards.grading.gym:check", {**payload, "forms": forms}, deadline_s=30.0, cpu_s=5.0, alone=True)
        for forms in stated
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
    from reasoning_gym.factory import DATASETS

    name, entry = payload["data_set"], payload["entry"]
    if name not in DATASETS:
        return Verdict.GOLD_UNUSABLE
    evaluate_nothing()
    right = any(full_marks(name, form, entry) for form in payload["forms"])
    return Verdict.CORRECT if right else payload["otherwise"]


def full_marks(name: str, answer: str, entry: dict[str, Any]) -> bool:
    """Whether an answer deserves full marks. A scorer that fails on it, and not on the gold answer, has not paid it."""
    if takes_back(answer, entry) or (name in SHAPES and not SHAPES[name].fullmatch(answer)):
        return False
    if name in SCORERS:
        return SCORERS[name](answer, entry)
    score = scorer(name, json.dumps(arguments(name, entry["metadata"]), sort_keys=True))
    if name == "propositional_logic":
        return follows(score, answer, entry)
    try:
        return score(answer, entry) >= 1.0
    except Exception:
        if entry.get("answer") is not None:
            score(entry["answer"], entry)  # if this fails too, the row or the scorer is at fault
        return False


def arguments(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the task that a scorer needs: those kept with the row, else what its metadata says of them."""
    from reasoning_gym.factory import DATASETS

    fields = {field.name for field in dataclasses.fields(DATASETS[name][1])} - {"seed", "size"}
    found: dict[str, Any] = {}
    difficulty = metadata.get("difficulty")
    for key, value in (difficulty if isinstance(difficulty, dict) else {}).items():
        if key in fields:
            found[key] = value
        elif isinstance(value, tuple | list) and len(value) == 2 and {f"min_{key}", f"max_{key}"} <= fields:
            found |= {f"min_{key}": value[0], f"max_{key}": value[1]}
    kept = metadata.get("task_args")
    return found | {key: value for key, value in (kept if isinstance(kept, dict) else {}).items() if key in fields}


@functools.lru_cache(maxsize=64)
def scorer(name: str, args: str) -> Any:
    """The data set's scorer, made with its arguments; with the default ones where it does not take these."""
    from reasoning_gym.factory import DATASETS

    data_set, config = DATASETS[name]
    try:
        made = config(**json.loads(args))
        if hasattr(made, "validate"):
            made.validate()
        return data_set(config=made).score_answer
    except (AssertionError, TypeError, ValueError):
        return data_set(config=config()).score_answer


def follows(score: Any, answer: str, entry: dict[str, Any]) -> bool:
    """Whether a conclusion follows from the premises and says more than they do, or than nothing.

    reasoning-gym calls a single letter trivial, and pays for the premises joined by `and`.
    """
    own = score.__self__
    module = sys.modules[type(own).__module__]
    try:
        if any(letter not in entry["metadata"]["variables"] for letter in answer if letter.isupper()):
            return False
        premises = [module.Expression.from_string(premise) for premise in entry["metadata"]["premises"]]
        conclusion = module.Expression.from_string(answer)
        if not own._is_valid_conclusion(premises, conclusion):
            return False
        trivial = conclusion.operator is not None and own._is_trivial(conclusion)
        return not trivial and not set(conjuncts(conclusion, module)) <= {str(premise) for premise in premises}
    except (ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError):
        return False


def conjuncts(expression: Any, module: types.ModuleType) -> list[str]:
    """The parts of a conclusion that `and` joins, as text."""
    if expression.operator == module.Operator.AND:
        return conjuncts(expression.left, module) + conjuncts(expression.right, module)
    return [str(expression)]


@functools.cache
def evaluate_nothing() -> None:
    """Give reasoning-gym's tasks functions in place of `eval`, `exec` and `parse_expr` that evaluate nothing."""

    class Algebra(types.ModuleType):
        """sympy with a reader of expressions that evaluates nothing."""

        def __getattr__(self, name: str) -> Any:
            import sympy

            return getattr(sympy, name)

    for name, module in list(sys.modules.items()):
        if not name.startswith("reasoning_gym.") or module is None:
            continue
        safe = Algebra("sympy")
        safe.parse_expr = safe.sympify = safe_expression
        vars(module)["eval"] = safe_value
        for held in ("sympy", "sp"):
            if isinstance(vars(module).get(held), types.ModuleType):
                vars(module)[held] = safe
        if getattr(vars(module).get("parse_expr"), "__module__", "").startswith("sympy"):
            vars(module)["parse_expr"] = safe_expression


def prepare() -> None:
    """Import reasoning-gym, which takes over a second, before the first deadline runs."""
    import reasoning_gym.factory  # noqa: F401
