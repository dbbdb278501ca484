"""Prompts, and which tokens carry loss."""

import pytest

from data_recipes.pocket.bases import base_folder
from data_recipes.templates import R1_ZERO, chat_prompt, r1_zero_prompt
from pipeline.training.sft import encode_rows


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder("teacher"))


def test_the_papers_template_holds_the_question_once_and_ends_where_the_assistant_begins():
    prompt = r1_zero_prompt("What is 2+2?")
    assert prompt.startswith("A conversation between User and Assistant.")
    assert prompt.endswith("User: What is 2+2? Assistant:")
    assert r1_zero_prompt("Add 2 and 2").endswith("User: Add 2 and 2. Assistant:")


def test_braces_in_a_question_are_text():
    assert "{x} and {question}" in r1_zero_prompt("{x} and {question}", R1_ZERO)


def test_a_profile_may_bring_its_own_template():
    assert r1_zero_prompt("1+1?", "Q: {question} A:") == "Q: 1+1? A:"


def test_the_chat_prompt_ends_with_the_assistants_turn(tokenizer):
    assert chat_prompt(tokenizer, "1+1?") == "User: 1+1? Assistant:"


def test_loss_is_on_the_whole_answer_the_first_think_and_the_end_token_included(tokenizer):
    prompt, response = chat_prompt(tokenizer, "What is 1+1+1?"), "<think>First 1+1=2.</think>The answer is 3."
    [row], dropped = encode_rows(tokenizer, [prompt], [response], 100)
    trained = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert dropped == 0
    assert tokenizer.decode(trained) == response + tokenizer.eos_token
    assert trained[0] == tokenizer.convert_tokens_to_ids("<think>")
    assert all(label in (-100, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))
    assert tokenizer.decode(row["input_ids"][: row["labels"].count(-100)]) == prompt


def test_rows_that_are_too_long_are_dropped_and_counted_not_cut(tokenizer):
    rows, dropped = encode_rows(tokenizer, ["User: a Assistant:"] * 2, ["b", "b" * 200], 50)
    assert (len(rows), dropped) == (1, 1)


def test_digits_and_tags_are_tokens_of_their_own(tokenizer):
    pieces = tokenizer.tokenize("<think>12+30=42</think>")
    assert pieces == ["<think>", "1", "2", "+", "3", "0", "=", "4", "2", "</think>"]
