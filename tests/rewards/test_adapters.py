"""The verifiers as TRL, verl and lm-evaluation-harness call them."""

import functools
import importlib.util
import inspect
from pathlib import Path

import pytest

from rewards import RewardError, adapters

RIGHT, WRONG = "<think> a </think> \\boxed{\\frac12}", "<think> a </think> \\boxed{3}"


def test_trl_calls_a_reward_with_columns_and_takes_none_for_what_cannot_be_judged():
    given = {"prompts": ["q"] * 3, "completion_ids": [[1]] * 3, "trainer_state": None}
    texts = [RIGHT, WRONG, RIGHT]
    assert adapters.trl_reward(completions=texts, answer=["0.5", "0.5", ""], **given) == [1.0, 0.0, None]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    assert adapters.trl_reward(completions=messages, solution=["1/2"] * 3, **given) == [1.0, 0.0, 1.0]
    mixed = {"answer": ["0.5", "B", "4"], "verifier": [None, "choice", "exact"]}
    assert adapters.trl_reward(completions=[RIGHT, "\\boxed{B}", "Answer: 4"], **mixed, **given) == [1.0, 1.0, 1.0]
    with pytest.raises(RewardError, match="no gold answer"):
        adapters.trl_reward(completions=texts, **given)


def test_verl_loads_the_file_by_its_path_and_calls_its_function_by_name():
    path = Path(inspect.getfile(adapters))
    specification = importlib.util.spec_from_file_location("custom_module", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    alone = functools.partial(module.compute_score, rewards=["accuracy"])
    score = alone(data_source="math", solution_str=RIGHT, ground_truth="0.5", extra_info={"index": 3})
    assert score["score"] == 1.0
    assert alone("math", WRONG, "0.5", None)["score"] == 0.0
    assert alone("mc", "\\boxed{B}", "B", {"verifier": "choice"})["score"] == 1.0
    assert alone("math", RIGHT, "0.5", {"verifier": None})["score"] == 1.0


def test_lm_eval_gets_its_metric_from_the_filtered_response():
    assert adapters.process_results({"question": "?", "answer": "0.5"}, [RIGHT]) == {"exact_match": 1.0}
    assert adapters.process_results({"question": "?", "target": 7}, [[WRONG]]) == {"exact_match": 0.0}
