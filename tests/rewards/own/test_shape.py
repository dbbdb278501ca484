"""Rewards written for TRL work unchanged: its own, and those over chat messages."""

import pytest
import trl.rewards

from rewards import RewardContext, RewardError, RewardSet, RewardSpec
from rewards.own.shape import declared_shape

RIGHT, WRONG = r"<think> half </think> So \boxed{\frac{1}{2}}", r"<think> no </think> So \boxed{3}"
UNENDED = r"<think> half of it, \boxed{\frac{1}{2}}"
TRL = {
    "accuracy_reward": ({}, [1.0, 0.0, 1.0]),
    "reasoning_accuracy_reward": ({}, [1.0, 0.0, 0.0]),
    "think_format_reward": ({}, [1.0, 1.0, 0.0]),
    "get_cosine_scaled_reward": ({"max_len": 8}, [0.75, -0.75, 0.75]),
    "get_repetition_penalty_reward": ({"ngram_size": 1}, [-0.75, -0.75, -0.75]),
    "get_soft_overlong_punishment": ({"max_completion_len": 6, "soft_punish_cache": 4}, [-0.5, -0.5, -0.5]),
}
"""Each reward of TRL's, arguments that it can take, and its scores of the three completions, of four equal tokens."""

SOURCE = '''
from typing import Any

def chat(completions, **columns):
    return [float(len(completion[0]["content"])) for completion in completions]

def asked(prompts, completions, **columns):
    return [float(prompt[-1]["role"] == "user" and "half" in prompt[-1]["content"]) for prompt in prompts]

def patient(completions, **columns):
    """Takes either for what it is not."""
    return [float(isinstance(completion, list)) for completion in completions]

def said(completions: list[list[dict[str, str]]], **columns):
    return patient(completions)

class Chat:
    def __init__(self):
        self.calls = 0
    def __call__(self, completions, **columns):
        self.calls += 1
        return [len(completion[-1].get("content")) + 100.0 * self.calls for completion in completions]

async def waited(completions, **columns):
    return [float(completion[0]["role"] == "assistant") for completion in completions]

def text(completions, **columns):
    return [float(completion.startswith("<")) for completion in completions]

def broken(completions, answer, **columns):
    return [float(len(completion)) + int(None) for completion in completions]

def environment(completions, environments, **columns):
    return [0.0] * len(completions)

def solved(completions, solution, answer, **columns):
    return [float(a == s) for a, s in zip(answer, solution)]
'''


@pytest.fixture
def built(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    made = []

    def build(use, **spec):
        use = use if ":" in use else f"{tmp_path / 'mine.py'}:{use}"
        made.append(RewardSet([RewardSpec(use=use, **spec)], RewardContext(folder=tmp_path)))
        return made[-1]

    yield build
    for reward_set in made:
        reward_set.close()


def scores(reward_set, completions=(RIGHT, WRONG), **columns):
    count = len(completions)
    columns = {"question": ["What is half?"] * count, "answer": [r"\frac{1}{2}"] * count} | columns
    return reward_set.functions[0](
        prompts=["User: What is half? Assistant:"] * count,
        completions=list(completions),
        completion_ids=[[1] * 4] * count,
        **columns,
    )


def test_every_reward_that_trl_exports_is_tried_here():
    assert set(TRL) == {name for names in trl.rewards._import_structure.values() for name in names}


@pytest.mark.parametrize("name", TRL)
def test_trls_own_rewards_score_as_they_do_in_trl(built, name):
    args, expected = TRL[name]
    assert scores(built(f"trl.rewards:{name}", args=args), (RIGHT, WRONG, UNENDED)) == pytest.approx(expected)


def test_a_reward_over_messages_gets_messages_without_a_word_in_the_profile(built):
    assert scores(built("chat")) == [len(RIGHT), len(WRONG)]
    assert scores(built("waited")) == [1.0, 1.0]


def test_the_shape_once_found_stays(built):
    """One call tells: the texts that failed first are not tried again."""
    reward_set = built("Chat")
    assert scores(reward_set) == [200.0 + len(RIGHT), 200.0 + len(WRONG)]
    assert scores(reward_set) == [300.0 + len(RIGHT), 300.0 + len(WRONG)]


def test_a_prompt_as_messages_is_the_question(built):
    assert scores(built("asked", completions="messages")) == [1.0, 1.0]


def test_texts_stay_texts(built):
    assert scores(built("text")) == [1.0, 1.0]
    assert scores(built("patient")) == [0.0, 0.0]


def test_what_the_annotation_or_the_profile_says_is_not_tried_out(built):
    assert scores(built("said")) == [1.0, 1.0]
    assert scores(built("patient", completions="messages")) == [1.0, 1.0]
    with pytest.raises(RewardError, match="indices must be integers"):
        scores(built("chat", completions="text"))


def test_a_reward_that_fails_on_either_shape_is_reported_as_it_failed_on_texts(built):
    with pytest.raises(RewardError, match=r"broken: row 0: raised TypeError: int\(\) argument"):
        scores(built("broken"))


def test_solution_is_a_second_name_of_answer_where_no_column_has_it(built):
    assert scores(built("solved")) == [1.0, 1.0]
    assert scores(built("solved"), solution=["other", None]) == [0.0, 1.0]


def test_what_cannot_work_here_is_refused_with_the_reason(built):
    with pytest.raises(RewardError, match=r"asks for `environments`"):
        built("environment")
    with pytest.raises(RewardError, match=r"accuracy is built in and reads texts and messages alike"):
        RewardSet([RewardSpec(use="accuracy", completions="messages")])


def test_a_new_key_at_its_default_changes_no_identity():
    assert "completions" not in RewardSpec(use="accuracy").model_dump(mode="json")
    assert RewardSpec(use="accuracy", completions="text").model_dump(mode="json")["completions"] == "text"


def plain(completions: list[str], **columns):
    """A reward whose annotation says texts."""


def test_annotations_are_read():
    assert declared_shape(plain) == "text"
    assert declared_shape(trl.rewards.think_format_reward) == "messages"
    assert declared_shape(trl.rewards.get_cosine_scaled_reward(8)) == "messages"
    assert declared_shape(lambda completions, **columns: []) is None
