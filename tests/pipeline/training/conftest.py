"""The tiny checkpoint that runs start from, and an engine that is open on it."""

from pathlib import Path

import pytest

from pipeline.engines import EngineSettings, open_engine
from tests.pipeline.engines.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), "qwen3")


@pytest.fixture(scope="module")
def engine(start):
    with open_engine(EngineSettings(kind="transformers", dtype="float32", max_model_len=128), start) as engine:
        yield engine
