"""Talking to a checkpoint: what is sent, what is shown, how it ends."""

import io
import shutil

import pytest

from data_recipes.pocket.bases import base_folder
from pipeline.core.errors import ConfigError
from pipeline.engines import Sampling
from pipeline.tools.chat import DIM, PLAIN, Conversation, chat, styled

GREEDY = Sampling(temperature=0.0, max_tokens=48)


def conversation(template=None, context=256):
    return Conversation(base_folder("teacher"), "cpu", "float32", GREEDY, context, template)


def test_reasoning_of_past_turns_is_not_sent_again():
    talk = conversation()
    said = "".join(talk.ask("What is 3+4+5?"))
    talk.history[-1]["content"] = talk.history[-1]["content"] or said
    assert "<think>" not in talk.prompt("And 2+2+2?")
    assert talk.prompt("And 2+2+2?").startswith("User: What is 3+4+5? Assistant:")


def test_the_answer_is_kept_without_its_reasoning(monkeypatch):
    talk = conversation()
    monkeypatch.setattr(
        talk, "_write", lambda streamer, *_: [streamer.on_finalized_text("<think>hm</think>Seven.", True)]
    )
    assert "".join(talk.ask("3+4?")) == "<think>hm</think>Seven."
    assert talk.history[-1] == {"role": "assistant", "content": "Seven."}


def test_a_model_of_the_plain_template_is_asked_through_it():
    assert conversation("User: {question} Assistant:").prompt("Who are you?") == "User: Who are you? Assistant:"


def test_old_turns_are_forgotten_when_the_context_is_full():
    talk = conversation(context=40)
    talk.history = [{"role": "user", "content": "1 2 3 4 5 6 7"}, {"role": "assistant", "content": "8 9 1 2 3 4"}] * 3
    "".join(talk.ask("Hi?"))
    assert len(talk.history) < 8


def test_old_turns_leave_room_for_an_answer():
    talk = conversation(context=60)
    talk.history = [{"role": "user", "content": "1 2 3 4 5 6 7"}, {"role": "assistant", "content": "8 9 1 2 3 4"}] * 3
    "".join(talk.ask("Hi?"))
    talk.history = talk.history[:-2]
    assert len(talk._encode("Hi?")) <= 30


def test_a_tokenizer_without_padding_can_talk():
    talk = conversation()
    talk.tokenizer.pad_token = None
    assert "".join(talk.ask("What is 3+4+5?"))


def test_a_question_longer_than_the_context_is_said():
    assert "context is 8" in "".join(conversation(context=8).ask("a question that is too long for this"))


def test_an_error_of_the_model_is_not_swallowed(monkeypatch):
    talk = conversation()
    monkeypatch.setattr(talk.model, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        "".join(talk.ask("Hi?"))


@pytest.mark.parametrize("cuts", [1, 2, 5, 100])
def test_reasoning_is_dimmed_however_the_text_arrives(cuts):
    text = "<think>a < b</think>So 2<3."
    pieces = [text[i : i + cuts] for i in range(0, len(text), cuts)]
    assert "".join(styled(iter(pieces), False, True)) == f"{DIM}a < b{PLAIN}\nSo 2<3.{PLAIN}"


def test_reasoning_that_the_prompt_opened_is_dimmed():
    assert "".join(styled(iter(["a</think>b"]), True, True)) == f"{DIM}a{PLAIN}\nb{PLAIN}"


def test_piped_text_has_no_colours(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("Who are you?\n\nWhat is 1+1+1?\n"))
    chat(conversation(), "test")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("\n") >= 2


def test_input_that_is_no_text_is_said(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        chat(conversation(), "test")


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("chat_template.jinja", "{{ raise_exception('no') }}", "cannot be rendered"),
        ("chat_template.jinja", None, "no chat template"),
        ("tokenizer.json", None, "cannot be read"),
        ("config.json", '{"model_type": "no_such_model"}', "cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_talked_to_says_why(tmp_path, file, text, part):
    shutil.copytree(base_folder("teacher"), tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    if text:
        (tmp_path / "model" / file).write_text(text)
    with pytest.raises(ConfigError, match=part):
        Conversation(tmp_path / "model", "cpu", "float32", GREEDY, 256, None)


def test_an_empty_line_begins_a_new_conversation(monkeypatch):
    talk = conversation()
    monkeypatch.setattr("sys.stdin", io.StringIO("Who are you?\n\n"))
    chat(talk, "test")
    assert talk.history == []


def test_an_interrupt_stops_the_answer_and_not_the_model(monkeypatch):
    talk = conversation()
    answer = talk.ask("What is 3+4+5?")
    next(answer)
    answer.close()
    assert talk.history == []
    assert "".join(talk.ask("What is 3+4+5?"))
