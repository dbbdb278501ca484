"""Servers that die, hang or talk nonsense while samples are drawn: none is lost, none doubled, or a clear error."""

import threading
import time

import pytest

from pipeline.core.errors import LadderError
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.engines.servers import ServerError
from tests.pipeline.engines.fake_server import HANG_S, FakeServer
from tests.pipeline.engines.tiny import tiny_checkpoint

PROMPTS = [[5] * k for k in range(1, 13)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture
def open_servers(checkpoint, monkeypatch):
    monkeypatch.setattr("pipeline.engines.servers.FIRST_REST_S", 0.01)

    def opened(*servers, **settings):
        settings = {"server_timeout_s": HANG_S, "server_tries": 4, "max_sequences": 8} | settings
        urls = [server.url for server in servers]
        return open_engine(
            EngineSettings(kind="vllm-server", max_model_len=64, server_urls=urls, **settings), checkpoint
        )

    return opened


def assert_each_once(groups, n: int = 2):
    """Every prompt has its own `n` completions: the second token of each is the length of the prompt."""
    assert [[c.token_ids[1] for c in group] for group in groups] == [[len(prompt)] * n for prompt in PROMPTS]


def without(key):
    return lambda answer: {**answer, "choices": [{k: v for k, v in c.items() if k != key} for c in answer["choices"]]}


def changed(**values):
    return lambda answer: {**answer, "choices": [c | values for c in answer["choices"]]}


BAD_ANSWERS = {
    "fewer completions": lambda answer: {"choices": answer["choices"][1:]},
    "more completions": lambda answer: {"choices": answer["choices"] * 2},
    "no choices": lambda answer: {"object": "error"},
    "a list": lambda answer: [],
    "null": lambda answer: None,
    "no index": without("index"),
    "no token ids": without("token_ids"),
    "words for token ids": changed(token_ids=["a", "b", "c"]),
    "no tokens": changed(token_ids=[]),
    "too many tokens": changed(token_ids=[5] * 50, logprobs={"token_logprobs": [-1.0] * 50}),
    "logprobs missing": changed(logprobs=None),
    "logprobs of another length": changed(logprobs={"token_logprobs": [-1.0]}),
    "logprobs that are no numbers": changed(logprobs={"token_logprobs": [None, None, None]}),
    "cut off by a shutdown": changed(finish_reason="abort"),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_bad_answer_is_asked_for_again_elsewhere(open_servers, bad):
    broken, healthy = FakeServer(50, *[bad] * 3), FakeServer(51)
    with open_servers(broken, healthy) as engine:
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4)))
    assert len(broken.answered) + len(healthy.answered) == len(PROMPTS)


@pytest.mark.parametrize(
    "fault", [500, 502, 503, 429, 404, 302, "die", "cut", "hang", "drip", "<html>", "", "[" * 9999]
)
def test_a_failing_server_is_left_for_another(open_servers, fault):
    broken, healthy = FakeServer(50, *[fault] * 3), FakeServer(51)
    patience = {"server_timeout_s": 2.0} if fault in ("hang", "drip") else {}
    with open_servers(broken, healthy, **patience) as engine:
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4)))
    assert len(broken.answered) + len(healthy.answered) == len(PROMPTS)


def test_a_server_that_dies_for_good_leaves_its_work_to_the_other(open_servers):
    dying, healthy = FakeServer(50), FakeServer(51)
    with open_servers(dying, healthy) as engine:
        first = engine.generate(PROMPTS, 2, Sampling(max_tokens=4))
        dying.stop()
        assert_each_once(first)
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4)))
    assert len(healthy.answered) > len(PROMPTS)


def test_a_server_killed_in_the_middle_of_sampling_loses_nothing(open_servers):
    dying, healthy = FakeServer(50), FakeServer(51)
    killer = threading.Thread(target=dying.stop)
    started = []

    def kill_once(done, _):
        if done == 3 and not started:
            started.append(killer.start())

    with open_servers(dying, healthy, max_sequences=2) as engine:
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4), kill_once))
    assert started


def test_a_single_server_is_waited_for(open_servers):
    with open_servers(FakeServer(50, 503, "die", 503), max_sequences=2) as engine:
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4)))


def test_a_resting_server_is_not_asked_for_every_request(open_servers, monkeypatch):
    monkeypatch.setattr("pipeline.engines.servers.FIRST_REST_S", 60.0)
    broken, healthy = FakeServer(50, *[503] * 99), FakeServer(51)
    with open_servers(broken, healthy, max_sequences=2) as engine:
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4)))
    assert len(broken.requests) == 1


def test_a_busy_server_is_left_alone_as_long_as_it_asks(open_servers):
    busy, healthy = FakeServer(50, 429, headers={"Retry-After": "20"}), FakeServer(51)
    with open_servers(busy, healthy, max_sequences=2) as engine:
        assert_each_once(engine.generate(PROMPTS, 2, Sampling(max_tokens=4)))
    assert len(busy.requests) == 1


def test_tries_are_bounded_and_the_error_says_what_each_server_said(open_servers):
    broken, hanging = FakeServer(50, *[503] * 99), FakeServer(51, *["hang"] * 99)
    with open_servers(broken, hanging, server_timeout_s=1.0) as engine, pytest.raises(ServerError) as error:
        engine.generate([[5]], 1, Sampling(max_tokens=4))
    assert isinstance(error.value, LadderError)
    assert len(broken.requests) + len(hanging.requests) == 4
    for part in (broken.url, "status 503: busy", hanging.url, "no answer within 1 s", "4 tries", "run the same"):
        assert part in str(error.value)


def test_a_refused_request_is_not_tried_again(open_servers):
    server = FakeServer(50, 400)
    with open_servers(server) as engine, pytest.raises(ServerError, match="status 400: busy"):
        engine.generate([[5]], 1, Sampling(max_tokens=4))
    assert len(server.requests) == 1


def test_an_error_does_not_wait_for_other_requests(open_servers):
    server = FakeServer(50, "hang", 400)
    began = time.monotonic()
    with open_servers(server) as engine, pytest.raises(ServerError):
        engine.generate(PROMPTS, 2, Sampling(max_tokens=4))
    assert time.monotonic() - began < HANG_S / 2


def test_the_key_of_the_environment_is_sent_and_never_shown(open_servers, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "very-secret")
    server = FakeServer(50, *[401] * 9)
    with open_servers(server) as engine, pytest.raises(ServerError) as error:
        engine.generate([[5]], 1, Sampling(max_tokens=4))
    assert set(server.keys) == {"Bearer very-secret"}
    assert "very-secret" not in str(error.value)


def test_something_that_is_no_vllm_server_is_named(checkpoint, monkeypatch):
    server = FakeServer(50)
    monkeypatch.setattr("pipeline.engines.server.read_json", lambda response: {"hello": "world"})
    settings = EngineSettings(kind="vllm-server", max_model_len=64, server_urls=[server.url])
    with pytest.raises(ServerError, match="no vLLM server"):
        open_engine(settings, checkpoint)
