"""A user's own reward, run in a worker process of its own, so that nothing it does can hang or crash training.

One process a reward, kept from batch to batch: a class keeps its state. The process sees `trainer_state` as its plain
numbers; what the reward logs through `log_extra` and `log_metric` reaches the trainer.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from rewards.contract import RewardError, described, row_name, shown, validated
from rewards.grading.pool import Outcome, Pool
from rewards.grading.verifiers import Job
from rewards.own.shape import ShapedReward
from rewards.registry import load

STATE = ("global_step", "max_steps", "epoch", "num_train_epochs")
LOAD_S = 300.0
"""Seconds that importing and making a reward may take beside its deadline: it may load a model."""
PROBE_S = 5.0
"""Seconds that one row may take in the search for a row that hangs."""

_loaded: dict[str, ShapedReward] = {}


class CustomReward:
    """The trainer's side: sends each batch to the process, and gives back scores or raises `RewardError`.

    The user's code is loaded only in that process. Raises `RewardError` where that fails, or takes longer than
    `deadline_s` and `LOAD_S`.
    """

    def __init__(
        self,
        use: str,
        args: dict[str, Any],
        deadline_s: float,
        find_culprit: bool = True,
        shape: Literal["auto", "text", "messages"] = "auto",
    ):
        self.use, self.args, self.deadline_s, self.find_culprit = use, args, deadline_s, find_culprit
        self.shape = shape
        self.pool = Pool(workers=1, trusted=True)
        try:
            about = self.asked("introduce", {}, deadline_s + LOAD_S)
        except BaseException:
            self.close()
            raise
        self.__name__, self.where, self.pickle_fault = about["name"], about["where"], about["pickle_fault"]

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        inputs = {"prompts": list(prompts), "completions": list(completions)} | portable(columns)
        outcome = self.run(inputs, self.deadline_s)
        if outcome.failure and not outcome.failure.startswith("RewardError: "):
            raise RewardError(f"{self.where}: {outcome.failure}{self.culprit(inputs) if self.find_culprit else ''}")
        if outcome.failure:
            raise RewardError(outcome.failure.removeprefix("RewardError: "))
        for logger, name, value in outcome.value["logged"]:
            if columns.get(logger) is not None:
                columns[logger](name, value)
        return outcome.value["scores"]

    def asked(self, function: str, more: dict[str, Any], deadline_s: float) -> Any:
        """What a function of this module gives in the process, for this reward."""
        outcome = self.job(function, more, deadline_s)
        if outcome.failure:
            cause = outcome.failure.removeprefix("RewardError: ")
            raise RewardError(cause if cause != outcome.failure else f"reward {self.use}: cannot be loaded: {cause}")
        return outcome.value

    def job(self, function: str, more: dict[str, Any], deadline_s: float) -> Outcome:
        payload = {"use": self.use, "args": self.args, "shape": self.shape} | more
        return self.pool.run([Job(f"rewards.own.custom:{function}", payload, deadline_s)])[0]

    def run(self, inputs: dict[str, Any], deadline_s: float) -> Outcome:
        return self.job("call", {"inputs": inputs}, deadline_s)

    def culprit(self, inputs: dict[str, Any]) -> str:
        """Find a row that by itself hangs or kills the process; empty if there is none."""
        for index in range(len(inputs["completions"])):
            failure = self.run(one_row(inputs, index), min(PROBE_S, self.deadline_s)).failure
            if failure and not failure.startswith("RewardError: "):
                return f": {row_name(index, inputs)}: completion {shown(inputs['completions'][index])}"
        return ", with no row that does so alone"

    def close(self) -> None:
        self.pool.close()


def portable(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what another process can be given: columns, and the plain values of `trainer_state`."""
    plain = {name: list(values) for name, values in columns.items() if isinstance(values, (list, tuple))}
    state = columns.get("trainer_state")
    if state is not None:
        plain["trainer_state"] = {name: getattr(state, name) for name in STATE if hasattr(state, name)}
    return plain


def one_row(inputs: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The inputs of one completion alone."""
    return {
        name: [values[index]] if isinstance(values, list) and name != "trainer_state" else values
        for name, values in inputs.items()
    }


def loaded(payload: dict[str, Any]) -> ShapedReward:
    """The process's side: the reward, made once."""
    use, args, shape = payload["use"], payload["args"], payload["shape"]
    known = repr((use, sorted(args.items()), shape))
    if known not in _loaded:
        _loaded[known] = ShapedReward(load(use, **args), shape)
    return _loaded[known]


def introduce(payload: dict[str, Any]) -> dict[str, Any]:
    """The process's side: what the reward is called, where it stands, and why it cannot be pickled if so."""
    reward = loaded(payload).reward
    name = getattr(reward, "__name__", None) or reward.func.__name__
    return {"name": name, "where": described(payload["use"], reward), "pickle_fault": pickle_fault(reward)}


def pickle_fault(reward: Callable[..., Any]) -> str | None:
    """Why the reward cannot be sent to another process; None where it can."""
    try:
        pickle.dumps(reward)
    except Exception as error:
        return f"it cannot be pickled ({type(error).__name__}: {error}), so it cannot be sent to another process"
    return None


def call(payload: dict[str, Any]) -> dict[str, Any]:
    """The process's side: score the batch, and keep the contract."""
    use, inputs, reward = payload["use"], payload["inputs"], loaded(payload)
    logged: list[tuple[str, str, Any]] = []
    scores = scores_of(use, reward, inputs, logged)
    scores = validated(use, reward.reward, scores, inputs, len(inputs["completions"]))
    return {"scores": scores, "logged": logged}


def scores_of(use: str, reward: ShapedReward, inputs: dict[str, Any], logged: list[tuple[str, str, Any]]) -> Any:
    """Call the reward as TRL does; an exception becomes a `RewardError` that names the first row that raises alone."""
    try:
        return invoke(reward, inputs, logged)
    except Exception as error:
        for index in range(len(inputs["completions"])):
            try:
                invoke(reward, one_row(inputs, index), [])
            except Exception as alone:
                completion = shown(inputs["completions"][index])
                raise RewardError(
                    f"{described(use, reward.reward)}: {row_name(index, inputs)}: raised {type(alone).__name__}: "
                    f"{alone}, for completion {completion}"
                ) from error
        raise RewardError(
            f"{described(use, reward.reward)}: raised {type(error).__name__}: {error}, with no row that does so alone"
        ) from error


def invoke(reward: ShapedReward, inputs: dict[str, Any], logged: list[tuple[str, str, Any]]) -> Any:
    inputs = dict(inputs)
    if "trainer_state" in inputs:
        inputs["trainer_state"] = SimpleNamespace(**inputs["trainer_state"])
    inputs["log_extra"] = lambda name, values: logged.append(("log_extra", name, list(values)))
    inputs["log_metric"] = lambda name, value: logged.append(("log_metric", name, float(value)))
    return reward(inputs)
