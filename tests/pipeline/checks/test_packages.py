"""Packages that only some profiles need."""

import pytest

from pipeline.checks.packages import EXTRAS, fetch_extras, missing_extras
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError

NEEDING = {
    "quantize": "stages.sft.sft.lora={quantize: nf4}",
    "puzzles": "questions.reasoning=[{use: 'reasoning_gym:chain_sum'}]",
    "near-duplicates": "cleaning.duplicates=near",
    "server": "engine={kind: vllm-server, servers: 2, max_model_len: 256}",
}


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """A Python that has none of the extras."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_the_main_job_needs_no_extra():
    assert missing_extras(load_profile("pocket").profile) == []


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.name)
def test_an_extra_is_fetched_once_a_profile_needs_it(extra, monkeypatch, tmp_path):
    profile = load_profile("pocket", [NEEDING[extra.name]]).profile
    assert [found.name for found, _, _ in missing_extras(profile)] == [extra.name]
    with pytest.raises(ConfigError, match=rf"needs the package {extra.module}.*r1-ladder\[{extra.name}\]"):
        monkeypatch.setattr("pipeline.checks.packages.INSTALL", tmp_path / "none")
        fetch_extras(profile)
