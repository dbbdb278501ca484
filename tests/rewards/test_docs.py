"""The page on custom rewards: every file, profile and example on it works as it says."""

import doctest
import re
from pathlib import Path

import pytest
import yaml

from rewards import RewardContext, RewardSet, RewardSpec, check, names

PAGE = (Path(__file__).parents[2] / "docs" / "custom-rewards.md").read_text()
BLOCKS = re.findall(r"^```(python|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {text.split()[1]: text for kind, text in BLOCKS if kind == "python" and text.startswith("# ")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the page, as the working folder."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_give_what_the_page_says(folder):
    examples = "\n".join(text for kind, text in BLOCKS if kind == "python" and text.startswith(">>>"))
    test = doctest.DocTestParser().get_doctest(examples, {}, "custom-rewards.md", None, 0)
    said = []
    results = doctest.DocTestRunner().run(test, out=said.append)
    assert results.attempted >= 9 and not results.failed, "".join(said)


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_the_profiles_build_their_rewards(folder, text):
    specs = [RewardSpec(**entry) for entry in yaml.safe_load(text)["rewards"]]
    reward_set = RewardSet(specs, RewardContext(folder=folder))
    assert len(reward_set.functions) == len(specs)
    reward_set.close()


def test_the_example_rewards_keep_the_contract(folder):
    rows = [{"completion": "<think> wait </think> The sea.", "keywords": ["sea"]}, {"completion": "", "keywords": []}]
    for use in ("brevity.py:brevity", "keywords.py:Keywords", "patience.py:patience"):
        assert check(use, rows) == 0


def test_every_built_in_reward_is_on_the_page():
    assert all(f"`{name}`" in PAGE for name in names())
