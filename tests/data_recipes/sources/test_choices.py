"""A multiple choice in the forms in which data sets keep them: the same options in order, the same one right."""

import pytest

from data_recipes.sources.choices import multiple_choice
from data_recipes.sources.mapping import RowMapping
from pipeline.core.errors import ConfigError

CITIES = ["Rome", "Paris", "Oslo"]
COLUMNS = ["one", "two", "three"]


def read(answer, cells, names):
    made = multiple_choice(answer, cells, names, "here, line 1", None, "Capital of France?")
    return made["choices"], made["answer"]


@pytest.mark.parametrize("answer", [1, 1.0, "1", "B", "b", "(B)", "B.", "Option B", "two"])
def test_columns_in_order_with_the_place_of_the_right_one(answer):
    assert read(answer, CITIES, COLUMNS) == (CITIES, "B")


@pytest.mark.parametrize(
    "cell",
    [
        CITIES,
        "['Rome', 'Paris', 'Oslo']",
        "['Rome' 'Paris' 'Oslo']",
        "Rome|Paris|Oslo",
        "Rome\nParis\nOslo",
        "A) Rome B) Paris C) Oslo",
        "(A) Rome, (B) Paris, (C) Oslo",
        {"A": "Rome", "B": "Paris", "C": "Oslo"},
        {"text": CITIES, "label": ["A", "B", "C"]},
        "{'text': ['Rome', 'Paris', 'Oslo'], 'label': ['A', 'B', 'C']}",
        ["A. Rome", "B. Paris", "C. Oslo"],
        ["(A) Rome", "(B) Paris", "(C) Oslo"],
    ],
    ids=str,
)
def test_one_cell_that_lists_all_options(cell):
    for answer in ("B", "(B)", "Paris"):
        assert read(answer, [cell], ["options"]) == (CITIES, "B")


def test_labels_other_than_letters_name_their_option():
    assert read("2", [{"text": CITIES, "label": ["1", "2", "3"]}], ["options"]) == (CITIES, "B")


def test_the_right_text_beside_the_wrong_ones_is_shuffled_in_the_same_way_each_time():
    first = read("Paris", ["Rome", "Oslo"], ["wrong 1", "wrong 2"])
    assert first == read("Paris", ["Rome", "Oslo"], ["wrong 1", "wrong 2"])
    assert sorted(first[0]) == sorted(CITIES) and first[0][ord(first[1]) - ord("A")] == "Paris"


@pytest.mark.parametrize(
    ("answer", "cells"),
    [
        ("3", ["3", "4", "5", "6"]),  # the text of one and the number of another
        (4, CITIES),
        ("D", [CITIES]),
        ("B", ["Rome and Paris and Oslo"]),
        ("B", [["Rome"]]),
        (None, CITIES),
        ("Paris", [["Paris", "Paris"]]),
    ],
)
def test_what_is_no_multiple_choice_is_refused_with_its_place(answer, cells):
    with pytest.raises(ConfigError, match=r"here, line 1: the options .* its number from 0"):
        read(answer, cells, COLUMNS[: len(cells)])


def test_the_column_of_options_that_is_missing_is_named_alone():
    mapping = RowMapping(options=["one", "two", "four"])
    with pytest.raises(ConfigError, match="here, line 1: there is no column 'four', which options names"):
        mapping.chosen_options({"one": "Rome", "two": "Paris", "three": "Oslo"}, "here, line 1")
