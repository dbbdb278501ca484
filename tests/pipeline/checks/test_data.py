"""`make check` finds what is wrong with questions before anything runs."""

import json

import pytest
from rich.console import Console

from data_recipes.sources.hub import HubUnreachableError
from pipeline.checks.data import check_data, data_notes, data_table
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    def write(name, rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"jsonl:{path}"

    return write


def profile(*sources, evaluated=None):
    overrides = [f"questions.reasoning={json.dumps(list(sources))}"]
    if evaluated:
        overrides.append(f"stages.evaluate.sets.reasoning={json.dumps(evaluated)}")
    return load_profile("smoke", overrides).profile


def table(checked):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(data_table(checked))
    return captured.get()


def good(count):
    return [{"question": f"What is {n} plus one?", "answer": n + 1} for n in range(count)]


def test_answers_that_cannot_be_read_are_counted_with_examples(file):
    checked = profile({"use": file("sums", [*good(9), {"question": "And this?", "answer": ""}])})
    check_data(checked)
    notes = "\n".join(data_notes(checked))
    assert "1 of 10 answers" in notes and "sums-10" in notes and "cannot be read" in notes


def test_a_mapping_that_takes_whole_solutions_for_answers_is_refused(file):
    rows = [{"question": f"{n}+1?", "answer": f"We add one.\n#### {n + 1}"} for n in range(5)]
    use = file("solutions", rows)
    with pytest.raises(ConfigError, match=r"5 of 5 answers cannot be used.*whole text"):
        check_data(profile({"use": use}))
    check_data(profile({"use": use, "args": {"answer_after": "####"}}))


def test_a_held_out_set_is_looked_at_too(file):
    use = file("exam", [{"question": "a", "answer": "b", "verifier": "maths"}])
    with pytest.raises(ConfigError, match="maths"):
        check_data(profile({"use": "countdown"}, evaluated={"source": {"use": use}, "samples": 4}))


def test_the_funnel_of_files_is_shown(file):
    checked = profile({"use": file("sums", [*good(5), *good(2)])})
    notes = "\n".join(data_notes(checked))
    assert "7 questions in, 5 out; dropped: duplicate 2" in notes


def test_a_data_set_that_cannot_be_reached_is_said_and_the_rest_is_checked(file, monkeypatch):
    def read_hub(*_):
        raise HubUnreachableError("hub:a/b cannot be reached")

    monkeypatch.setattr("data_recipes.sources.catalogue.read_hub", read_hub)
    checked = profile({"use": "hub:a/b"}, {"use": file("sums", good(5))})
    check_data(checked)
    assert "hub:a/b cannot be reached" in "\n".join(data_notes(checked))
    assert " 5 " in table(checked)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ({"use": "countdown", "upsample": True}, "never ends"),
        ({"use": "countdown", "args": {"largst": 3}}, "largst"),
        ({"use": "benchmark:aime"}, "aime_2024"),
        ({"use": "csv:"}, "No question source"),
        ({"use": "csv:nothere.csv"}, "nothere.csv"),
    ],
)
def test_a_wrong_source_is_refused(source, part):
    with pytest.raises(ConfigError, match=part):
        check_data(profile(source))


def test_all_of_a_recipe_without_end_cannot_be_evaluated():
    with pytest.raises(ConfigError, match=r"evaluate\.sets\.reasoning.*never ends"):
        check_data(profile({"use": "countdown"}, evaluated={"source": {"use": "countdown"}, "samples": 4}))


def test_a_benchmark_brings_its_own_k():
    sets = profile({"use": "countdown"}, evaluated={"source": {"use": "benchmark:aime_2024"}}).stages.evaluate.sets
    assert (sets["reasoning"].samples, sets["reasoning"].questions) == (64, None)
