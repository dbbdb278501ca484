"""The verifiers and rewards as other trainers and evaluators call them: TRL, verl, verifiers with prime-rl, lm-eval.

`math` judges unless a row says otherwise by its column `verifier`. In TRL a weighted set of rewards needs none of this:
`RewardSet(specs)` has its `reward_funcs` (`.functions`) and `reward_weights` (`.weights`). Examples: docs/python.md.
"""

import asyncio
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from pipeline.config.rewards import RewardSpec
from rewards.columns import FROM_TRAINER, rows_of
from rewards.contract import RewardError
from rewards.grading.judging import judge_answer, judge_answers
from rewards.registry import built_in
from rewards.response import text_of
from rewards.reward_set import RewardContext, RewardSet

GOLDS = ("answer", "solution", "ground_truth", "target")
"""Columns that may hold the gold answer, the first that is there counts."""
DEFAULT_REWARDS = ("accuracy", "format")
DEFAULT_VERIFIER = "math"
Named = RewardSpec | Mapping[str, Any] | str
"""A reward as a profile lists it: its name alone, or a mapping with `use`, `weight`, `args` …"""


def trl_reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
    """A reward function of TRL: `GRPOTrainer(reward_funcs=trl_reward)`, on a data set with a gold answer.

    1 for a right answer, 0 for a wrong one or none, None (which TRL leaves out) where the gold answer cannot be used.
    """
    named = {name: values for name, values in columns.items() if name not in ("prompts", "completion_ids")}
    rows = [as_row(row) for row in rows_of(named, len(completions))]
    return [verdict.score for verdict in judge_answers([text_of(each) for each in completions], rows)]


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """`process_results` of an lm-evaluation-harness task that generates: exact match by the verifier.

    In a file beside the task's YAML, `from rewards.adapters import process_results`, and in the YAML
    `process_results: !function FILE.process_results` with the metric `exact_match`.
    """
    response = results[0][0] if isinstance(results[0], list | tuple) else results[0]
    return {"exact_match": judge_answer(response, as_row(doc)).score or 0.0}


def as_row(given: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a verifier of what another library gives. Raises RewardError where no gold answer is there."""
    row = dict(given)
    name = next((name for name in GOLDS if row.get(name) is not None), None)
    if name is None and row.get("verifier") in (None, "math", "exact", "choice"):
        raise RewardError(f"there is no gold answer: expected a column {', '.join(GOLDS)}; there are {', '.join(row)}")
    if name is not None:
        row["answer"] = row[name]
    row["verifier"] = row.get("verifier") or DEFAULT_VERIFIER
    return row


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    rewards: Sequence[Named] = DEFAULT_REWARDS,
    **_: Any,
) -> dict[str, float]:
    """verl's custom reward function, by its default name: `score`, which is the reward, and of each reward its own
    score and `…_scored`.

    `extra_info` holds `verifier` (default: math) and other columns of the question. A reward that does not apply, or
    could not judge, adds nothing to `score`; its own score is then 0 and its `…_scored` 0, so that a metric can tell it
    from a wrong answer. Further keywords, which verl passes, are ignored.
    """
    scorer = _shared_scorer(json.dumps([_spec(reward).model_dump(mode="json") for reward in rewards]))
    row = {**(extra_info or {}), "answer": ground_truth}
    scores = scorer.scores(solution_str, _columns(row), row.get("prompt", ""))
    result = {"score": float(scorer.total(scores))}
    for name, score in scores.items():
        result |= {name: float(score or 0.0), f"{name}_scored": float(score is not None)}
    return result


class Scorer:
    """Scores one completion at a time by a weighted set of rewards.

    Raises RewardError where a reward cannot be built, or compares the completions of a group, which trainers that score
    one at a time do not hand over. Safe to call from several threads; `close` ends the processes of custom rewards.
    """

    def __init__(
        self,
        rewards: Sequence[Named] = DEFAULT_REWARDS,
        context: RewardContext | None = None,
        tokenizer: Callable[[str], Mapping[str, Any]] | None = None,
    ):
        """`tokenizer` (a Hugging Face one, say) counts tokens for rewards of length."""
        specs = [_spec(reward) for reward in rewards]
        for spec in specs:
            if _compares_groups(spec.use):
                raise RewardError(
                    f"reward {spec.use} compares the completions of a group, and here they are scored one at a time. "
                    "Leave it out, or train where the whole batch is scored (TRL, this ladder)."
                )
        self.tokenizer = tokenizer
        self.reward_set = RewardSet(specs, context)
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        return [function.__name__ for function in self.reward_set.functions]

    @property
    def weights(self) -> list[float]:
        return self.reward_set.weights

    def scores(
        self, completion: Any, row: Mapping[str, Any], prompt: Any = "", only: str | None = None
    ) -> dict[str, float | None]:
        """Reward name -> its score of the completion, None where it does not apply or could not judge.

        `completion` and `prompt` are texts or lists of chat messages. `row` holds `answer`, `verifier` (default: math)
        and what else the rewards read. `only` computes the reward of that name alone.
        """
        columns = {key: [value] for key, value in row.items()}
        columns["verifier"] = [row.get("verifier") or DEFAULT_VERIFIER]
        if self.tokenizer is not None:
            columns["completion_ids"] = [list(self.tokenizer(text_of(completion))["input_ids"])]
        with self._lock:
            return {
                function.__name__: function(prompts=[prompt], completions=[completion], **columns)[0]
                for function in self.reward_set.functions
                if only in (None, function.__name__)
            }

    def total(self, scores: Mapping[str, float | None]) -> float:
        """The weighted sum over the rewards that gave a score."""
        weighted = zip(self.names, self.weights, strict=True)
        return sum(weight * scores[name] for name, weight in weighted if scores[name] is not None)

    def close(self) -> None:
        self.reward_set.close()


def rubric(
    rewards: Sequence[Named] = DEFAULT_REWARDS, context: RewardContext | None = None
) -> tuple[list[Callable[..., Any]], list[float]]:
    """(functions, weights) for `verifiers.Rubric(funcs=…, weights=…)`.

    Each function takes verifiers' keywords; the question's columns are those of the row and of its `info`. It gives 0
    where a reward does not apply or could not judge, since a rubric knows numbers only.
    """
    scorer = Scorer(rewards, context)
    return [_rubric_function(scorer, name) for name in scorer.names], list(scorer.weights)


def _rubric_function(scorer: Scorer, name: str) -> Callable[..., Any]:
    async def score(completion, prompt="", answer=None, info=None, **others) -> float:
        info = json.loads(info) if isinstance(info, str) and info.strip() else info or {}
        row = {key: value for key, value in others.items() if isinstance(value, str | int | float | list)}
        scored = functools.partial(
            scorer.scores, _messages(completion), _columns({**row, **info, "answer": answer}), _messages(prompt), name
        )
        return float((await asyncio.to_thread(scored))[name] or 0.0)

    score.__name__ = name
    return score


def _messages(text: Any) -> Any:
    """A text as it is; messages as mappings, whether they were mappings or objects."""
    if isinstance(text, str):
        return text
    return [
        message if isinstance(message, Mapping) else {"role": message.role, "content": message.content}
        for message in text
    ]


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without what a reward gets from a trainer by that name."""
    return {key: value for key, value in row.items() if key not in (*FROM_TRAINER, "prompt", "completion")}


def _spec(reward: Named) -> RewardSpec:
    if isinstance(reward, RewardSpec):
        return reward
    return RewardSpec(use=reward) if isinstance(reward, str) else RewardSpec(**reward)


def _compares_groups(use: str) -> bool:
    reward = built_in().get(use)
    return reward is not None and "num_generations" in reward.__init__.__annotations__


@functools.cache
def _shared_scorer(specs: str) -> Scorer:
    return Scorer(json.loads(specs))
