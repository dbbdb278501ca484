"""Talking to a GGUF file: what llama.cpp says, what is kept of it, and what is no such file."""

import io

import pytest

from data_recipes.pocket.bases import base_folder
from pipeline.core.errors import ConfigError
from pipeline.engines import Sampling
from pipeline.export.gguf import write_gguf
from pipeline.tools.chat import Conversation, chat
from pipeline.tools.gguf_chat import GGUFConversation, context_of

BASE = base_folder("teacher")
QUESTION = "What is 3+4+5?"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(BASE, path, "test")
    return path


@pytest.fixture(scope="module")
def talk(file):
    return GGUFConversation(file, Sampling(temperature=0.0, max_tokens=64))


@pytest.fixture(autouse=True)
def begun(talk):
    talk.history.clear()


def test_the_file_says_what_its_checkpoint_says(talk):
    sampling = Sampling(temperature=0.0, max_tokens=talk.context // 2)
    checkpoint = Conversation(BASE, "cpu", "float32", sampling, talk.context, None)
    assert "".join(talk.ask(QUESTION)).split() == "".join(checkpoint.ask(QUESTION)).split()
    assert talk.history == checkpoint.history


def test_an_answer_that_is_stopped_is_not_kept(talk):
    answer = talk.ask(QUESTION)
    next(answer)
    answer.close()
    assert talk.history == []
    assert "".join(talk.ask(QUESTION))


def test_the_oldest_turns_are_forgotten_where_they_leave_no_room(talk):
    turns = [{"role": "user", "content": "1 2 3 4 5 6 7 " * 8}, {"role": "assistant", "content": "8 9 " * 8}]
    talk.history += turns * 20
    assert "".join(talk.ask(QUESTION))
    assert 2 <= len(talk.history) < 42 and talk.history[-2]["content"] == QUESTION


def test_a_question_longer_than_the_context_is_said(talk):
    said = "".join(talk.ask("1 2 3 " * talk.context))
    assert "context" in said and talk.history == []


def test_it_reads_questions_as_every_chat_does(talk, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n"))
    chat(talk, "model.gguf")
    assert talk.history[-2]["content"] == QUESTION and capsys.readouterr().out.strip()


def test_what_is_no_gguf_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        context_of(tmp_path / "nothing.gguf")
    text = tmp_path / "text.gguf"
    text.write_text("a model, some day\n" * 10)
    with pytest.raises(ConfigError, match="is no GGUF file"):
        GGUFConversation(text, Sampling(max_tokens=64))
