"""`make check` says what the RL stages will train on: enough, with answers, under rewards that apply, and evaluated."""

import json
from pathlib import Path

import pytest

from pipeline.checks.profile import check_profile
from pipeline.checks.questions import check_questions, question_notes
from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    def write(name, rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"jsonl:{path}"

    return write


def sums(count, first=0, **columns):
    return [{"question": f"What is {n} plus {n}?", "answer": 2 * n, **columns} for n in range(first, first + count)]


def profile(*sources, more=()) -> Profile:
    return load_profile("smoke", [f"questions.reasoning={json.dumps(list(sources))}", *more]).profile


def notes(checked: Profile) -> str:
    return "\n".join(question_notes(checked))


def test_fewer_questions_than_a_rollout_asks_are_refused(file):
    repeated = file("few", [*sums(3), *sums(3)])  # 6 rows, 3 questions
    with pytest.raises(ConfigError, match=r"stages\.r1_zero: there are 3 questions .* a rollout asks 4"):
        check_profile(profile({"use": repeated}))
    check_profile(profile({"use": file("enough", sums(4))}))


@pytest.mark.parametrize("name", ["completions", "prompts", "completion_ids", "trainer_state"])
def test_a_column_that_rewards_get_from_the_trainer_is_named_with_its_file(file, name):
    use = file("taken", sums(8, **{name: "x"}))
    with pytest.raises(ConfigError, match=rf"questions\.reasoning.*taken\.jsonl, line 1: there is a column '{name}'"):
        check_profile(profile({"use": use}))
    check_profile(profile({"use": use, "args": {"columns": {"question": "question", "answer": "answer"}}}))


def test_columns_of_mixed_types_and_columns_that_some_rows_lack_are_accepted(file, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def listed(completions, level, **columns):\n    return [float(each is None) for each in level]\n"
    )
    rows = [*sums(4, level=3), *sums(4, 4, level="Level 3"), *sums(4, 8), *sums(4, 12, level=2**70)]
    rewards = json.dumps([{"use": "accuracy"}, {"use": f"{tmp_path / 'mine.py'}:listed"}])
    check_profile(profile({"use": file("mixed", rows)}, more=[f"stages.r1_zero.rewards={rewards}"]))


def test_a_files_questions_have_the_domain_of_their_group(file):
    """So rewards of the last round, which name domains, apply to them without a word of the user's."""
    checked = profile({"use": file("my-sums", sums(20))})
    check_profile(checked)
    assert "general_rl" not in notes(checked)  # general questions are made, so nothing exact is known


def test_a_reward_whose_domains_no_question_has_is_refused(file):
    with pytest.raises(ConfigError, match=r"stages\.general_rl\.rewards: accuracy is limited to domains reasoning"):
        check_profile(profile({"use": file("maths", sums(20)), "domain": "maths"}))
    with pytest.raises(ConfigError, match=r"theirs are .*algebra"):
        check_profile(profile({"use": file("own-domains", sums(20, domain="algebra"))}))


@pytest.mark.parametrize(
    "args",
    [
        {},  # the file calls them `solution`
        {"columns": {"question": "question", "solution": "solution"}},
        {"columns": {"question": "question"}},
    ],
)
def test_answers_under_another_name_are_refused_where_a_reward_compares_them(file, args):
    rows = [{"question": row["question"], "solution": row["answer"]} for row in sums(20)]
    with pytest.raises(ConfigError, match=r"stages\.r1_zero\.rewards: accuracy compares answers, and none of the 20"):
        check_profile(profile({"use": file("solved", rows), "args": args}))


def test_how_often_each_question_is_drawn_and_that_none_is_evaluated_is_said(file):
    said = notes(profile({"use": file("mine", sums(8))}))
    assert "stages.r1_zero: 16 prompts from 8 questions, so each is drawn 2 times" in said
    assert "none of your questions is evaluated" in said


def test_how_many_of_the_users_questions_are_evaluated_is_said(file):
    own = {"source": {"use": file("exam", sums(6, 50))}, "questions": 4, "samples": 2}
    said = notes(profile({"use": file("mine", sums(8))}, more=[f"stages.evaluate.sets.exam={json.dumps(own)}"]))
    assert "evaluate.exam: 4 of 6 questions" in said and "none of your questions" not in said


def test_nothing_is_said_of_recipes_alone():
    assert "questions is evaluated" not in notes(load_profile("smoke").profile)


@pytest.mark.parametrize("name", [path.stem for path in Path("configs").glob("*.yaml")])
def test_every_profile_of_ours_has_questions_for_its_rewards(name):
    """As far as its sources are on this machine."""
    check_questions(load_profile(name).profile)
