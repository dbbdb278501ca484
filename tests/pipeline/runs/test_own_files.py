"""What a stage's result depends on holds every file of the user's own that its section names."""

import pytest

from pipeline.config.loading import load_profile
from pipeline.core.own_code import own_code
from pipeline.ladder import STAGES
from pipeline.runs.identity import resolved_config


def written(path, text="x = 1\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def reward(use, args="{}"):
    return [f"stages.r1_zero.rewards=[{{use: '{use}', args: {args}}}]"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on Python's path with rewards that import their helpers in every way."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written(
        tmp_path / "mine.py", "import json\nimport direct\nfrom parts import one\n\ndef score(**k):\n    import late\n"
    )
    written(tmp_path / "direct.py", "import indirect\nimport direct\n")
    written(tmp_path / "indirect.py")
    written(tmp_path / "late.py")
    written(tmp_path / "parts" / "__init__.py")
    written(tmp_path / "parts" / "one.py", "from . import two\nfrom .deep.three import x\n")
    written(tmp_path / "parts" / "two.py")
    written(tmp_path / "parts" / "deep" / "three.py")
    written(tmp_path / "unrelated.py")
    written(tmp_path / "words.txt", "a\n")
    written(tmp_path / "tables" / "a.csv", "1\n")
    written(tmp_path / "mine.jinja", "{{ messages }}")
    return tmp_path


IMPORTED = [
    "mine.py", "direct.py", "indirect.py", "late.py", "parts/__init__.py", "parts/one.py", "parts/two.py",
    "parts/deep/three.py",
]  # fmt: skip


@pytest.mark.parametrize("changed", IMPORTED)
@pytest.mark.parametrize("by", ["file", "package"])
def test_a_change_of_a_rewards_code_changes_the_stage(folder, by, changed):
    profile = load_profile("smoke", reward(f"{folder}/mine.py:score" if by == "file" else "mine:score")).profile
    before = resolved_config(profile, STAGES["r1_zero"])
    written(folder / "unrelated.py", "y = 2\n")
    assert resolved_config(profile, STAGES["r1_zero"]) == before
    written(folder / changed, (folder / changed).read_text() + "# changed\n")
    assert resolved_config(profile, STAGES["r1_zero"]) != before


@pytest.mark.parametrize("changed", ["words.txt", "tables/a.csv"])
def test_a_change_of_a_file_among_arguments_changes_the_stage(folder, changed):
    args = f"{{words: '{folder}/words.txt', more: [{{folder: '{folder}/tables'}}]}}"
    profile = load_profile("smoke", reward("language", args)).profile
    before = resolved_config(profile, STAGES["r1_zero"])
    written(folder / changed, "changed\n")
    assert resolved_config(profile, STAGES["r1_zero"]) != before


def test_a_change_of_a_chat_template_changes_the_stage_that_writes_the_tokenizer(folder):
    override = [f"stages.base_model.tokenizers={{teacher: {{chat_template: '{folder}/mine.jinja'}}}}"]
    profile = load_profile("smoke", override).profile
    before = {stage.id: resolved_config(profile, stage) for stage in STAGES.values()}
    written(folder / "mine.jinja", "changed")
    after = {stage.id: resolved_config(profile, stage) for stage in STAGES.values()}
    assert [stage for stage in before if before[stage] != after[stage]] == ["base_model"]


@pytest.mark.parametrize(
    "use", ["accuracy", "json:dumps", "trl.rewards:think_format_reward", "rewards.builtin.accuracy:Accuracy", "gone:x"]
)
def test_what_is_built_in_or_installed_is_told_by_its_version(use):
    assert own_code(use) == []


def test_a_template_of_the_ladders_own_and_a_plain_reward_file_name_no_further_files(folder):
    override = [
        "stages.base_model.tokenizers={teacher: {chat_template: chatml}}",
        *reward(f"{folder}/unrelated.py:score", "{part: words, words: 3}"),
    ]
    profile = load_profile("smoke", override).profile
    assert not profile.stages.base_model.own_files()
    assert list(resolved_config(profile, STAGES["r1_zero"])["files"]) == [f"{folder}/unrelated.py:score"]


def test_code_that_cannot_be_parsed_is_itself_a_file(folder):
    assert own_code(f"{written(folder / 'broken.py', 'def (')}:score") == [folder / "broken.py"]
