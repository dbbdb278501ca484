"""The verifiers as other trainers and evaluators call them: TRL, verl, lm-evaluation-harness.

Each is a plain function. `math` judges unless a row says otherwise by its column `verifier`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.columns import rows_of
from rewards.contract import RewardError
from rewards.grading.judging import judge_answer, judge_answers
from rewards.response import text_of

GOLDS = ("answer", "solution", "ground_truth", "target")
"""Columns that may hold the gold answer, the first that is there counts."""


def trl_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """A reward function of TRL: `GRPOTrainer(reward_funcs=trl_reward)`, on a data set with a gold answer.

    1 for a right answer, 0 for a wrong one or none, None (which TRL leaves out) where the gold answer cannot be used.
    """
    named = {name: values for name, values in columns.items() if name not in ("prompts", "completion_ids")}
    rows = [as_row(row) for row in rows_of(named, len(completions))]
    return [verdict.score for verdict in judge_answers([text_of(each) for each in completions], rows)]


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
) -> float:
    """A score function of verl: `custom_reward_function.path=…/rewards/adapters.py`, its default name.

    verl has no score for "cannot be judged": a gold answer that cannot be used gives 0.
    """
    row = as_row({**(extra_info or {}), "answer": ground_truth})
    return judge_answer(solution_str, row).score or 0.0


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """`process_results` of an lm-evaluation-harness task that generates: exact match by the verifier.

    In a file beside the task's YAML, `from rewards.adapters import process_results`, and in the YAML
    `process_results: !function FILE.process_results` with the metric `exact_match`.
    """
    said = results[0][0] if isinstance(results[0], list | tuple) else results[0]
    return {"exact_match": judge_answer(said, as_row(doc)).score or 0.0}


def as_row(given: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a verifier of what another library gives. Raises RewardError where no gold answer is there."""
    row = dict(given)
    name = next((name for name in GOLDS if row.get(name) is not None), None)
    if name is None and row.get("verifier") in (None, "math", "exact", "choice"):
        raise RewardError(f"there is no gold answer: expected a column {', '.join(GOLDS)}; there are {', '.join(row)}")
    if name is not None:
        row["answer"] = row[name]
    row["verifier"] = row.get("verifier") or "math"
    return row
