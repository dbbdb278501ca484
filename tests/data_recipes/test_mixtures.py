"""Groups of questions: shares by weight, cleaning, and a funnel in which every row is accounted for."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.cleaning.decontamination import HeldOut
from data_recipes.cleaning.duplicates import Duplicates
from data_recipes.mixtures import mix, share_out
from data_recipes.question import Question
from data_recipes.sources import catalogue
from pipeline.config.data import Source
from pipeline.core.errors import ConfigError

NOTHING = HeldOut({})


@pytest.fixture
def file(tmp_path):
    def write(name, questions, answer="1"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"question": q, "answer": answer}) + "\n" for q in questions))
        return f"jsonl:{path}"

    return write


def numbered(count, what):
    return [f"What is {what} number {n}?" for n in range(count)]


SOURCES = st.lists(
    st.tuples(st.floats(0.1, 10), st.one_of(st.none(), st.integers(0, 50))), min_size=1, max_size=5
)  # fmt: skip


@given(st.integers(1, 200), SOURCES)
def test_shares_add_up_to_the_count_or_to_all_there_is(count, given_sources):
    weights, available = zip(*given_sources, strict=True)
    shares = share_out(count, weights, available)
    most = sum(count if each is None else each for each in available)
    assert sum(shares) == min(count, most)
    assert all(each is None or 0 <= share <= each for share, each in zip(shares, available, strict=True))


def test_shares_go_by_weight():
    assert share_out(100, [3, 1], [None, None]) == [75, 25]


def test_what_a_small_source_lacks_is_given_by_the_others(file):
    group = [Source(file("small", numbered(4, "small"))), Source(file("large", numbered(100, "large")))]
    rows, funnel = mix(group, 40, "s", NOTHING)
    assert sorted(row.domain for row in rows) == ["large"] * 36 + ["small"] * 4
    assert funnel.dropped == {"beyond_its_share": 64}


def test_upsampling_repeats_a_small_source_up_to_its_share(file):
    group = [Source(file("small", numbered(4, "small")), upsample=True), Source(file("large", numbered(100, "large")))]
    rows, funnel = mix(group, 40, "s", NOTHING)
    small = [row for row in rows if row.domain == "small"]
    assert len(small) == 20 and len({row.question for row in small}) == 4
    assert funnel.repeated == 16
    assert len({row.id for row in rows}) == 40


def test_null_takes_every_row(file):
    group = [Source(file("one", numbered(4, "one"))), Source(file("two", numbered(9, "two")))]
    assert len(mix(group, None, "s", NOTHING)[0]) == 13


@pytest.mark.parametrize("change", [{"weight": 2.0}, {"upsample": True}])
def test_null_leaves_weights_and_upsampling_no_meaning(file, change):
    group = [Source(file("one", numbered(4, "one")), **change), Source(file("two", numbered(9, "two")))]
    with pytest.raises(ConfigError, match="no meaning"):
        mix(group, None, "s", NOTHING)


def test_an_endless_source_needs_a_count():
    with pytest.raises(ConfigError, match="never ends"):
        mix([Source("countdown")], None, "s", NOTHING)


def test_a_source_can_be_given_a_domain(file):
    rows, _ = mix([Source(file("one", numbered(3, "one")), domain="reasoning")], None, "s", NOTHING)
    assert {row.domain for row in rows} == {"reasoning"}


def test_the_same_seed_mixes_the_same_rows(file):
    group = [Source(file("one", numbered(50, "one"))), Source("countdown")]
    assert mix(group, 30, "s", NOTHING)[0] == mix(group, 30, "s", NOTHING)[0]
    assert mix(group, 30, "s", NOTHING)[0] != mix(group, 30, "t", NOTHING)[0]


def test_an_endless_source_is_asked_for_more_in_place_of_what_is_held_out():
    rows, _ = mix([Source("countdown")], 40, "s", NOTHING)
    held_out = HeldOut({"ours": [row.question for row in rows[:10]]}, n=100)
    others, funnel = mix([Source("countdown")], 40, "s", held_out)
    assert len(others) == 40
    assert not {row.question for row in others} & {row.question for row in rows[:10]}
    assert funnel.dropped["held_out: ours"] == 10


def test_duplicates_go_across_sources_of_a_group(file):
    group = [Source(file("one", ["What is a cat?"])), Source(file("two", ["what is a  CAT ?", "What is a dog?"]))]
    rows, funnel = mix(group, None, "s", NOTHING)
    assert len(rows) == 2 and funnel.dropped == {"duplicate": 1}
    assert len(mix(group, None, "s", NOTHING, duplicates="keep")[0]) == 3


LONG = "A train leaves the old station at noon and drives north for three hours until it meets the evening bus"


def test_near_duplicates_go_where_that_is_asked_for(file):
    group = [Source(file("one", [LONG + ".", LONG + " again.", "An entirely other question about ships and ports."]))]
    assert len(mix(group, None, "s", NOTHING, duplicates="exact")[0]) == 3
    rows, funnel = mix(group, None, "s", NOTHING, duplicates="near", similarity=0.8)
    assert len(rows) == 2 and funnel.dropped == {"near_duplicate": 1}


def test_near_duplicates_are_found_among_many():
    import random

    rng = random.Random(0)
    seen, missed = Duplicates(0.7), 0
    for _ in range(300):
        words = [f"w{rng.randrange(10_000)}" for _ in range(40)]
        for text in (words, [*words[:-1], "other"]):  # 37 of 39 shingles shared: similarity 0.95
            row = Question(id="q", domain="d", question=" ".join(text), answer=None, verifier="none")
            missed += (seen.reason(row) == "near_duplicate") != (text is not words)
    assert missed <= 3, f"{missed} of 600 told wrongly"


def test_a_response_that_gives_a_held_out_solution_away_is_dropped(tmp_path):
    path = tmp_path / "general.jsonl"
    path.write_text(
        json.dumps({"question": "Tell me of a train.", "answer": None, "response": f"Well: {LONG}."}) + "\n"
    )
    rows, funnel = mix([Source(f"jsonl:{path}")], None, "s", HeldOut({"exam": [LONG]}))
    assert not rows and funnel.dropped == {"held_out: exam": 1}


def test_every_row_is_accounted_for(file):
    texts = [*numbered(20, "thing"), "What is thing number 3?", LONG, LONG + " now", "What is held out here?"]
    group = [Source(file("one", texts), upsample=True), Source("countdown"), Source(file("bad", ["Say?"], answer=""))]
    for count in (5, 30, 200):
        rows, funnel = mix(group, count, "s", HeldOut({"exam": ["What is held out here?"]}), "near", 0.8)
        assert funnel.rows_in - funnel.dropped.total() + funnel.repeated == funnel.rows_out == len(rows) == count
        assert set(funnel.dropped) >= {"duplicate", "near_duplicate", "held_out: exam", "unreadable_answer"}
        assert all(funnel.examples[reason] for reason in funnel.dropped)


def recipe_held_out(use: str, count: int) -> HeldOut:
    rows = catalogue.load(use, count, "held out", True, {})
    return HeldOut({}, whole={"ours": [row.whole for row in rows]})


@pytest.mark.parametrize("use", ["countdown", "reasoning_gym:knights_knaves"])
def test_a_recipe_may_be_trained_on_and_evaluated_on(use):
    rows, funnel = mix([Source(use)], 30, "s", recipe_held_out(use, 20))
    assert len(rows) == 30
    assert sum(funnel.dropped.values()) <= 3


def test_questions_of_a_gym_task_do_not_stand_twice():
    rows, funnel = mix([Source("reasoning_gym:gcd", {"max_numbers": 2, "max_value": 12})], 60, "s", NOTHING)
    assert len({row.question for row in rows}) == len(rows)
    assert funnel.dropped["duplicate"] > 0


def test_the_same_stem_with_other_options_is_another_question(file):
    stem = "Which of these is true?"
    use = file("stems", [])
    rows = [{"question": stem, "answer": 0, "options": [f"right {n}", f"wrong {n}"]} for n in range(4)]
    Path(use.removeprefix("jsonl:")).write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows, _ = mix([Source(use, {"options": ["options"]})], None, "s", HeldOut({"exam": [stem]}))
    assert len(rows) == 4


BAD_LINES = {
    "broken JSON": '{"question": "q',
    "no question": '{"answer": "1"}',
    "an empty question": '{"question": " ", "answer": "1"}',
    "a list": "[1]",
    "an id that stands twice": '{"id": "0", "question": "again", "answer": "1"}',
    "a conversation": '{"question": [{"role": "assistant", "content": "a"}], "answer": "1"}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_one_bad_row_of_many_is_counted_and_several_refuse_the_file(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    good = [f'{{"id": "{n}", "question": "Double {n}.", "answer": "{2 * n}"}}\n' for n in range(299)]
    path.write_text("".join([*good[:200], line + "\n", *good[200:]]))
    rows, funnel = mix([Source(f"jsonl:{path}")], None, "s", HeldOut({}))
    assert (len(rows), funnel.rows_in, funnel.rows_out) == (299, 300, 299)
    assert funnel.dropped == {"unreadable_row": 1} and "line 201" in funnel.examples["unreadable_row"][0]
    path.write_text("".join([*good[:200], line + "\n", line + "\n", *good[200:]]))
    with pytest.raises(ConfigError, match="line 201"):
        mix([Source(f"jsonl:{path}")], None, "s", HeldOut({}))
