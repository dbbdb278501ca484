"""Data sets of the Hub: read through `datasets`, and three different things that can be wrong with a name.

`datasets` takes a folder of that name in the working folder for the data set, so its real code runs without a network.
"""

import json
from pathlib import Path

import httpx
import pytest

from data_recipes.sources import catalogue, hub
from data_recipes.sources.hub import HubUnreachableError
from pipeline.core.errors import ConfigError

CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: train.jsonl}
  - {split: test, path: test.jsonl}
---
"""
ARGS = {"config": "main", "answer_after": "####"}


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """A data set `someone/sums` with ten training rows and five test rows; the Hub does not answer."""
    folder = tmp_path / "someone" / "sums"
    folder.mkdir(parents=True)
    for split, count in (("train", 10), ("test", 5)):
        rows = [{"question": f"{split} {n}+1?", "answer": f"One more.\n#### {n + 1}"} for n in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "README.md").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_hub_answers", lambda: False)
    return "hub:someone/sums"


def test_rows_of_a_split_become_questions(sums):
    rows = catalogue.load_finite(sums, {**ARGS, "split": "test"})
    assert [row.answer for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0].question == "test 0+1?"


def test_the_first_rows_are_streamed(sums):
    assert len(catalogue.load_finite(sums, ARGS, first=3)) == 3


@pytest.mark.parametrize("first", [None, 6])
def test_text_in_a_column_with_one_number_stays_as_it_was_written(sums, first):
    answers = ["033", "2.50", "true", "2024-01-05", 'say "hi"', 7]
    rows = [{"question": f"{n}?", "answer": answer} for n, answer in enumerate(answers)]
    Path("someone/sums/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = catalogue.load_finite(sums, {"config": "main"}, first=first)
    own = catalogue.load_finite("jsonl:someone/sums/train.jsonl", {})
    assert [row.answer for row in read] == [row.answer for row in own] == [*answers[:-1], "7"]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ({**ARGS, "config": "man"}, ["man", "main"]),
        ({**ARGS, "split": "dev"}, ["dev", "train", "test"]),
        ({**ARGS, "columns": {"question": "problem"}}, ["problem", "question, answer", "someone/sums"]),
        ({"config": "main", "answer_after": "=>"}, ["=>", "row 1"]),
    ],
)
def test_a_wrong_part_or_column_names_those_that_are_there(sums, args, parts):
    with pytest.raises(ConfigError) as error:
        catalogue.load_finite(sums, args)
    for part in parts:
        assert part in str(error.value)


def test_a_data_set_that_is_not_here_cannot_be_reached_without_a_network(sums):
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        catalogue.load_finite("hub:someone/else", {})


def failing(monkeypatch, error):
    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_hub_answers", lambda: True)


def response(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.example/datasets/a/b"))


def wrapped(cause):
    from datasets.exceptions import DatasetNotFoundError

    error = DatasetNotFoundError("Dataset 'a/b' …")
    error.__cause__ = cause
    return error


def test_a_gated_data_set_says_how_to_get_in(monkeypatch):
    from huggingface_hub.errors import GatedRepoError

    failing(monkeypatch, wrapped(GatedRepoError("403", response=response(403))))
    with pytest.raises(ConfigError, match=r"hub:a/b is gated.*HF_TOKEN") as error:
        catalogue.load_finite("hub:a/b", {})
    assert not isinstance(error.value, HubUnreachableError)


def test_a_data_set_that_does_not_exist_is_not_called_unreachable(monkeypatch):
    from huggingface_hub.errors import RepositoryNotFoundError

    failing(monkeypatch, wrapped(RepositoryNotFoundError("404", response=response(404))))
    with pytest.raises(ConfigError, match=r"hub:a/b does not exist") as error:
        catalogue.load_finite("hub:a/b", {})
    assert not isinstance(error.value, HubUnreachableError)


@pytest.mark.parametrize("error", [ConnectionError("no route"), httpx.ConnectTimeout("slow")])
def test_a_hub_that_does_not_answer_is_unreachable(monkeypatch, error):
    failing(monkeypatch, error)
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        catalogue.load_finite("hub:a/b", {})


def test_a_defect_stays_a_defect(monkeypatch):
    failing(monkeypatch, KeyError("ours"))
    with pytest.raises(KeyError):
        catalogue.load_finite("hub:a/b", {})


def test_a_name_without_an_owner_is_refused():
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        catalogue.load_finite("hub:csv", {})
