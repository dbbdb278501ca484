"""Rows of several sources reach the rewards as they are, whatever the first of them holds."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline.config.grpo import GRPOSettings
from pipeline.engines import EngineSettings, open_engine
from pipeline.training.grpo.run import train_grpo
from rewards import RewardSet, RewardSpec
from rewards.columns import FROM_TRAINER, as_columns, with_every_column
from tests.pipeline.engines.tiny import tiny_checkpoint

SUM = {"prompt": "1+1 ?", "verifier": "exact", "answer": "2"}
REACH = {"prompt": "Reach 16 ?", "verifier": "countdown", "answer": None, "numbers": [3, 5, 2], "target": 16}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), "qwen3")


@pytest.fixture(scope="module")
def engine(start):
    with open_engine(EngineSettings(kind="transformers", dtype="float32", max_model_len=64), start) as engine:
        yield engine


def train(start, engine, out, dataset, rewards, group_size=2):
    engine.load_weights(start)
    chosen = GRPOSettings(
        prompts_per_step=len(dataset), group_size=group_size, rollout_prompts=None, max_steps=1, beta=0.0,
        max_completion_tokens=4, max_completion_schedule=[], checkpoint_every=1, log_rollouts_every=1,
    )  # fmt: skip
    train_grpo(
        model_path=start, tokenizer=AutoTokenizer.from_pretrained(start), dataset=dataset, settings=chosen,
        engine=engine, reward_functions=rewards, reward_weights=[1.0] * len(rewards), output_dir=out, seed=0,
        dtype="float32",
    )  # fmt: skip
    return [json.loads(line) for line in (out / "rollouts" / "step-000001.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("order", [[SUM, REACH], [REACH, SUM]])
def test_right_answers_of_two_kinds_are_right_in_both_orders(start, engine, tmp_path, monkeypatch, order):
    """The engine writes the right answer to either; only what a verifier is given of the row decides."""
    generate, decode = engine.generate, AutoTokenizer.from_pretrained(start).decode

    def right(prompts, n, sampling, on_group=None):
        groups = generate(prompts, n, sampling)
        for ids, group in zip(prompts, groups, strict=True):
            for completion in group:
                completion.text = "<answer>(3+5)*2</answer>" if "Reach" in decode(ids) else "<answer>2</answer>"
        return groups

    monkeypatch.setattr(engine, "generate", right)
    rows = train(start, engine, tmp_path, order, RewardSet([RewardSpec(use="accuracy")]).functions)
    assert [row["verdicts"]["accuracy"] for row in rows] == ["correct"] * 4


def test_a_reward_gets_each_rows_own_value_and_none_for_what_it_lacks(start, engine, tmp_path):
    """Values that no column of one type could hold: mixed types, whole numbers of any size, objects of other keys."""
    values = [3, "Level 3", 2**70, ["a", 1], {"x": 1}, {"y": [2]}, None, 0.5]
    dataset = [{"prompt": f"{n} ?", "number": n, "value": value} for n, value in enumerate(values)]
    dataset += [{"prompt": "bare ?", "number": 8}]
    seen = {}

    def spy(completions, number, value, **_):
        seen.update(zip(number, value, strict=True))
        return [0.0] * len(completions)

    train(start, engine, tmp_path, random.Random(0).sample(dataset, len(dataset)), [spy])
    assert seen == dict(enumerate([*values, None]))


@pytest.mark.parametrize("name", [name for name in FROM_TRAINER if name != "self"])
def test_a_column_that_the_trainer_calls_something_else_is_refused(start, engine, tmp_path, name):
    with pytest.raises(ValueError, match=f"row 'r1' has a column '{name}'"):
        train(start, engine, tmp_path, [{"prompt": "a"}, {"prompt": "b", "id": "r1", name: 1}], [len])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), json_values, max_size=4), max_size=6), st.randoms())
def test_which_columns_there_are_does_not_depend_on_the_order_of_rows(rows, rng):
    shuffled = rng.sample(rows, len(rows))
    assert set(as_columns(rows)) == set(as_columns(shuffled))
    for whole, row in zip(with_every_column(rows), rows, strict=True):
        assert {name: value for name, value in whole.items() if name in row} == row
        assert all(value is None for name, value in whole.items() if name not in row)
