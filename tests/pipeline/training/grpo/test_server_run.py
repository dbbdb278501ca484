"""RL whose rollouts are written by servers that forget the policy on the way: none is lost, doubled or of others."""

from collections import Counter

import pytest

from pipeline.engines import EngineSettings, open_engine
from tests.pipeline.engines.weight_server import WeightServer
from tests.pipeline.training.grpo.runs import Stop, metrics, rollouts, run, settings


@pytest.fixture
def served(start, tmp_path, monkeypatch):
    """Two servers, and an engine on them."""
    monkeypatch.setattr("pipeline.engines.servers.FIRST_REST_S", 0.01)
    servers = [WeightServer(start, 50), WeightServer(start, 51)]
    for server in servers:
        server.scale = 1e-4
    keys = {"server_urls": [server.url for server in servers], "weights_folder": str(tmp_path / "weights")}
    with open_engine(EngineSettings(kind="vllm-server", dtype="float32", max_model_len=128, **keys), start) as engine:
        yield servers, engine
    assert not list((tmp_path / "weights").iterdir())


@pytest.mark.parametrize("ahead", [0, 1])
def test_every_rollout_is_whole_and_by_a_policy_within_the_bound_whatever_servers_forget(
    served, start, tmp_path, ahead
):
    servers, engine = served

    def forgets(record):
        servers[record["step"] % 2]._restarted()
        if record["step"] == 3:
            servers[0]._restarted()
            servers[1]._restarted()

    chosen = settings(max_steps=6, steps_ahead=ahead, learning_rate=1e-3)

    def stops(record):
        forgets(record)
        if record["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        run(start, engine, tmp_path, chosen, log=stops)
    run(start, engine, tmp_path, chosen, log=forgets, resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 7))
    assert len(rollouts(tmp_path)) == 6
    for name, rows in rollouts(tmp_path).items():
        step = int(name.removeprefix("step-")) - 1
        assert set(Counter(row["id"] for row in rows).values()) == {chosen.group_size}
        assert len(rows) == chosen.prompts_per_step * chosen.group_size
        for row in rows:
            ((made, first, end),) = row["policy_steps"]
            assert (first, end) == (0, row["tokens"])
            assert step - ahead <= made <= step
