"""Opening engines: settings that clash, packages that are missing, servers over HTTP."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.engines.engine import MissingEngineError
from pipeline.engines.server import ServerError
from tests.pipeline.engines.fake_server import FakeServer
from tests.pipeline.engines.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model"), "llama")


def test_importing_the_package_loads_no_torch():
    code = "import sys, pipeline.engines, pipeline.config.grpo; print({'torch', 'vllm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_missing_vllm_is_an_error_and_no_other_engine(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingEngineError, match=r"make setup.*kind: transformers"):
        open_engine(EngineSettings(max_model_len=64), checkpoint)


def test_whole_numbers_are_floats():
    assert EngineSettings(max_model_len=64, gpu_memory_utilization=1).gpu_memory_utilization == 1.0
    assert Sampling(max_tokens=4, temperature=1, top_p=1).temperature == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "vllm-server"}, "server_urls is empty"),
        ({"kind": "vllm", "server_urls": ["http://a"]}, "kind='vllm' but|kind='vllm' uses|uses no server"),
        ({"temperture": 1.0}, "temperture"),
        ({"max_sequences": "8"}, "max_sequences"),
        ({"gpu_memory_utilization": True}, "gpu_memory_utilization"),
    ],
)
def test_settings_that_clash(settings, message):
    with pytest.raises(ValidationError, match=message):
        EngineSettings(max_model_len=64, **settings)


@pytest.fixture
def open_servers(checkpoint):
    def opened(*servers):
        settings = EngineSettings(kind="vllm-server", max_model_len=64, server_urls=[s.url for s in servers])
        return open_engine(settings, checkpoint)

    return opened


def test_requests_are_spread_over_servers(open_servers):
    servers = [FakeServer(50), FakeServer(51)]
    seen = []
    with open_servers(*servers) as engine:
        groups = engine.generate(
            [[5] * k for k in (1, 2, 3, 4)], 2, Sampling(max_tokens=4, seed=9), lambda *p: seen.append(p)
        )
    assert [[c.token_ids[1] for c in group] for group in groups] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert [len(s.requests) for s in servers] == [2, 2]
    assert seen[-1] == (4, 4)
    asked = [(r["model"], r["n"], r["seed"]) for server in servers for r in server.requests]
    assert sorted(asked) == [("served-name", 2, seed) for seed in (9, 11, 13, 15)]
    completion = groups[0][0]
    assert completion.finish_reason == "stop"
    assert completion.logprobs == [-0.5, -0.25, -0.125]


def test_a_server_that_is_not_there_is_named(checkpoint):
    settings = EngineSettings(kind="vllm-server", max_model_len=64, server_urls=["http://127.0.0.1:9"])
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9.*server_urls"):
        open_engine(settings, checkpoint)


def test_servers_take_no_weights_and_say_so(open_servers, checkpoint):
    with open_servers(FakeServer(50)) as engine:
        with pytest.raises(NotImplementedError, match="kind: vllm"):
            engine.sync_weights(None)
        with pytest.raises(NotImplementedError, match="start a server"):
            engine.load_weights(checkpoint)
