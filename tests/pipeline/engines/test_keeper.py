"""The keeper of servers: they come back whatever ends them, and none outlives the run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import alive
from pipeline.config.engine import EngineSettings
from pipeline.core.errors import ConfigError
from pipeline.core.ranks import GPUS
from pipeline.engines.keeper import STATE, Keeper, ServerPlan
from pipeline.engines.server_plans import server_gpus, server_plans
from pipeline.engines.servers import ServerError
from tests.pipeline.engines.tiny import tiny_checkpoint

STAND_IN = Path(__file__).with_name("stand_in.py")
PATIENCE_S = 120.0


def settings(**keys):
    return EngineSettings(kind="vllm-server", max_model_len=64, servers=2, **keys)


def plans(*words: str) -> list[ServerPlan]:
    ports = [plan.url.rpartition(":")[2] for plan in server_plans(settings(), str(MODEL), "cpu")]
    return [ServerPlan(f"http://127.0.0.1:{port}", [sys.executable, str(STAND_IN), port, *words], {}) for port in ports]


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory):
    global MODEL
    MODEL = tiny_checkpoint(tmp_path_factory.mktemp("model"), "qwen3")
    return MODEL


def until(true):
    """Waits for it as long as it may take on a machine that is busy."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def state(keeper) -> dict:
    return json.loads((keeper.folder / STATE).read_text())


def pids(keeper) -> list[int]:
    """Of the servers and of all that they have started."""
    groups = {server["pid"] for server in state(keeper)["servers"]}
    return [pid for pid, process in alive().items() if process.group in groups]


@pytest.mark.parametrize(("sent", "patience"), [(signal.SIGKILL, {}), (signal.SIGSTOP, {"server_silent_s": 20.0})])
def test_a_server_that_dies_or_falls_silent_comes_back_at_its_address(sent, patience):
    keeper = Keeper(plans(), settings(**patience))
    try:
        first, second = state(keeper)["servers"]
        os.kill(first["pid"], sent)
        until(lambda: state(keeper)["servers"][0]["starts"] == 2 and len(state(keeper)["up"]) == 2)
        again, other = state(keeper)["servers"]
        assert other == second
        assert again["url"] == first["url"]
        assert first["pid"] not in alive()
        assert len(pids(keeper)) == 4  # nothing of the first one's is left
        keeper.check()
    finally:
        keeper.close()


def test_closed_it_leaves_no_process_and_no_file():
    keeper = Keeper(plans(), settings())
    started = pids(keeper)
    assert len(started) == 4
    keeper.close()
    assert set(started) & alive().keys() == set()
    assert not keeper.folder.exists()


@pytest.mark.parametrize("killed", ["the run", "the keeper"])
def test_no_server_outlives_what_keeps_it(killed, tmp_path):
    code = (
        "import json, sys, time; from pipeline.engines.keeper import *; "
        "from pipeline.config.engine import EngineSettings as S; "
        "plans = [ServerPlan(**plan) for plan in json.loads(sys.argv[1])]; "
        "keeper = Keeper(plans, S(kind='vllm-server', max_model_len=64, servers=2)); "
        "print(keeper.folder, keeper._process.pid, flush=True); time.sleep(600)"
    )
    told = json.dumps([plan.__dict__ for plan in plans()])
    run = subprocess.Popen([sys.executable, "-c", code, told], stdout=subprocess.PIPE, text=True)
    folder, keeper = run.stdout.readline().split()
    groups = {server["pid"] for server in json.loads((Path(folder) / STATE).read_text())["servers"]}
    os.kill(run.pid if killed == "the run" else int(keeper), signal.SIGKILL)
    if killed == "the run":
        until(lambda: not any(process.group in groups for process in alive().values()))
        until(lambda: not Path(folder).exists())
    else:
        until(lambda: not groups & alive().keys())
        run.kill()
        shutil.rmtree(folder)
    run.wait()


def test_a_server_that_never_comes_up_ends_in_what_it_said():
    with pytest.raises(ServerError, match=r"(?s)did not come up in 3 tries.*there is no such model"):
        Keeper(plans("fails"), settings())


def test_servers_take_the_gpus_after_those_of_training():
    assert server_gpus(2, 2, 4, "") == ["4,5", "6,7"]
    assert server_gpus(2, 1, 1, "3,5,7") == ["5", "7"]
    with pytest.raises(ConfigError, match=r"need 5 GPUs, and CUDA_VISIBLE_DEVICES=3,5,7 shows 3"):
        server_gpus(2, 2, 1, "3,5,7")


def test_plans_give_each_server_a_port_and_gpus_and_what_taking_over_weights_needs(monkeypatch):
    monkeypatch.setenv(GPUS, "0,1,2,3")
    made = server_plans(settings(dtype="float32"), str(MODEL), "cuda")
    assert len({plan.url for plan in made}) == 2
    assert [plan.environment["CUDA_VISIBLE_DEVICES"] for plan in made] == ["1", "2"]
    for plan in made:
        assert plan.environment["VLLM_SERVER_DEV_MODE"] == "1"
        for words in (["--model", str(MODEL)], ["--dtype", "float32"], ["--logprobs-mode", "processed_logprobs"]):
            assert words == plan.command[(at := plan.command.index(words[0])) : at + 2]
    fixed = server_plans(settings(), str(MODEL), "cpu", "0.0.0.0", 8000)
    assert [plan.url for plan in fixed] == ["http://0.0.0.0:8000", "http://0.0.0.0:8001"]
    assert fixed[0].environment["CUDA_VISIBLE_DEVICES"] == ""


def test_plans_say_what_vllm_would_not_find_out_about_latent_attention(tmp_path):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3")
    plan = server_plans(settings(dtype="float32", latent_cache=False), str(folder), "cpu")[0]

    def value(option):
        return plan.command[plan.command.index(option) + 1]

    assert plan.environment["VLLM_MLA_DISABLE"] == "1"
    assert json.loads(value("--compilation-config")) == {"custom_ops": ["-rotary_embedding"]}
    assert json.loads(value("--hf-overrides"))["topk_method"] == "noaux_tc"
    assert "--compilation-config" not in server_plans(settings(), str(MODEL), "cpu")[0].command
