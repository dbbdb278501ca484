"""How long a server that starts is waited for. Time is a number here, and nothing waits for it."""

import asyncio
import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.engine import EngineSettings
from pipeline.engines import keeper
from pipeline.engines.keeper import GaveUp, ServerPlan, Watch
from pipeline.engines.server_plans import server_plans
from pipeline.engines.starting import Start, group_cpu_s, longest_start_s, weights_bytes
from tests.pipeline.engines.tiny import tiny_checkpoint

STILL_S = 100.0


def given_up_at(start: Start, looks) -> tuple[float, str]:
    """When, and why. `looks`: (time, bytes said, CPU seconds) of each look."""
    return next((now, why) for now, *seen in looks if (why := start.given_up(now, *seen)))


@given(
    st.floats(0, 1e12),
    st.lists(st.tuples(st.floats(0.1, STILL_S - 1), st.booleans(), st.floats(1.0, 50.0)), min_size=1),
)
def test_one_that_gets_on_is_waited_for_up_to_the_limit_and_no_longer(weights, moves):
    """Each move brings a line in the log, or work."""
    limit = longest_start_s(STILL_S, weights)
    start, now, said, cpu_s = Start(STILL_S, weights, 0.0), 0.0, 0, 0.0
    for after, speaks, works in moves:
        now, said, cpu_s = now + after, said + speaks, cpu_s + (0 if speaks else works)
        assert bool(start.given_up(now, said, cpu_s)) == (now >= limit)
    why = start.given_up(max(limit, now), said + 1, cpu_s)
    assert f"did not answer within {limit:.0f} s" in why and "engine.server_start_s" in why
    assert f"{weights / 1e9:.1f} GB of weights" in why


@given(st.floats(0, 1e12), st.floats(0, 0.009))
def test_one_that_is_still_is_given_up_after_that_time_however_large_it_is(weights, idling):
    """It computes for a while, and then does no more than to look around."""
    looks = ((float(now), 5, min(now, 50) + idling * now) for now in itertools.count(1))
    when, why = given_up_at(Start(STILL_S, weights, 0.0), looks)
    assert when <= 52 + STILL_S and f"nothing for {STILL_S:g} s" in why and "engine.server_start_s" in why


def test_the_limit_grows_with_the_weights(tmp_path):
    assert longest_start_s(900, 0) == 3600
    assert longest_start_s(900, 65e9) == 3600 + 1300
    folder = tiny_checkpoint(tmp_path, "qwen3")
    settings = EngineSettings(kind="vllm-server", max_model_len=64, servers=1)
    [plan] = server_plans(settings, str(folder), "cpu")
    assert plan.weights == weights_bytes(str(folder)) == (folder / "model.safetensors").stat().st_size
    assert weights_bytes("OWNER/NAME") == 0


def test_work_of_a_servers_children_counts_those_that_have_ended_too():
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {burn!r}]); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True, **pipes)
    try:
        process.stdout.readline()
        assert group_cpu_s(process.pid) >= 0.2
    finally:
        process.communicate("\n")
    assert group_cpu_s(process.pid) == 0


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import time; time.sleep(600)", "it said nothing and computed nothing for 300 s"),
        ("import sys; sys.exit('no such model')", r"it ended with 1\. It said last:\s+no such model"),
    ],
)
def test_each_start_that_fails_is_told_when_it_does_and_why(tmp_path, monkeypatch, code, why):
    monkeypatch.setattr(keeper, "TICK_S", 0.01)
    plan = ServerPlan("http://127.0.0.1:9", [sys.executable, "-S", "-c", code], {})
    step_s = 100.0 if "sleep" in code else 0.0
    told, clock = [], itertools.count(0.0, step_s)
    watch = Watch([plan], tmp_path, 300.0, 1.0, told.append, lambda: next(clock))
    with pytest.raises(GaveUp, match=f"(?s)did not come up in 3 tries.*{why}"):
        asyncio.run(watch.run())
    assert [fault.partition(": ")[0] for fault in told] == [
        f"http://127.0.0.1:9 did not come up, try {number} of 3" for number in (1, 2, 3)
    ]
    assert watch.faults == told
