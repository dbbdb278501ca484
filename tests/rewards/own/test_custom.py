"""Custom rewards: found by name, run apart, and held to the contract."""

import asyncio
import pickle
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import rewards
from rewards import RewardContext, RewardError, RewardSet, RewardSpec, Verdict
from rewards.contract import awaited

HANG_S = 120.0
"""Far more than any reward here takes that ends."""

SOURCE = '''
import asyncio, math, os, time

def brevity(completions, completion_ids, max_tokens=10, **kwargs):
    """Shorter is better."""
    return [max(0.0, 1 - len(ids) / max_tokens) for ids in completion_ids]

async def patient(prompts, completions, **kwargs):
    await asyncio.sleep(0)
    return [1] * len(completions)

class Counting:
    def __init__(self, start: float):
        self.calls = start
    def __call__(self, prompts, completions, **kwargs):
        self.calls += 1
        return [self.calls] * len(completions)

def steps(completions, trainer_state, log_metric, log_extra, **kwargs):
    log_metric("seen", trainer_state.global_step)
    log_extra("text", completions)
    return [float(trainer_state.global_step)] * len(completions)

def process(completions, **kwargs):
    return [float(os.getpid())] * len(completions)

def raises(completions, **kwargs):
    return [1 / (text != "bad") for text in completions]

def of_keywords(completions, keywords, **kwargs):
    return [1.0] * len(completions)

def too_few(completions, **kwargs):
    return [1.0]

def strings(completions, **kwargs):
    return [0.5 if text != "bad" else "high" for text in completions]

def not_a_number(completions, **kwargs):
    return [0.5 if text != "bad" else math.nan for text in completions]

def scalar(completions, **kwargs):
    return 1.0

def hangs(completions, **kwargs):
    while "bad" in completions:
        time.sleep(1)
    return [0.0] * len(completions)

def dies(completions, **kwargs):
    if "bad" in completions:
        os._exit(3)
    return [0.0] * len(completions)

def by_order(completions, **kwargs):
    return [float(index) for index in range(len(completions))]

def nothing(completions, **kwargs):
    return [None] * len(completions)

unpicklable = lambda completions, **kwargs: [0.0] * len(completions)
number = 7
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_rewards.py"
    path.write_text(SOURCE)
    return path


def built(file, name, **spec):
    return RewardSet([RewardSpec(use=f"my_rewards.py:{name}", **spec)], RewardContext(folder=file.parent))


def called(reward_set, completions=("good", "bad"), **columns):
    count = len(completions)
    ids = [[1] * 5] * count
    return reward_set.functions[0](prompts=["q"] * count, completions=list(completions), completion_ids=ids, **columns)


def test_a_function_is_loaded_from_a_file_with_its_arguments(file):
    reward = rewards.load(f"{file}:brevity", max_tokens=20)
    assert reward.__name__ == "brevity"
    assert reward(completions=["a"], completion_ids=[[1] * 5]) == [0.75]


def test_a_class_is_made_with_its_arguments(file):
    assert rewards.load(f"{file}:Counting", start=2)(prompts=["q"], completions=["a"]) == [3]


def test_a_reward_is_loaded_from_a_package():
    reward = rewards.load("rewards.builtin.format:TagCount")
    assert reward(prompts=["q"], completions=["<think>"]) == [0.25]


def test_trl_rewards_plug_in_unchanged():
    use = "trl.rewards:get_soft_overlong_punishment"
    reward_set = RewardSet([RewardSpec(use=use, args={"max_completion_len": 10, "soft_punish_cache": 10})])
    try:
        assert called(reward_set) == [-0.5, -0.5]
    finally:
        reward_set.close()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("no_such_reward", "accuracy"),
        ("missing.py:f", "no file"),
        ("{file}:missing", "brevity"),
        ("{file}:number", "function or a class"),
        ("no_such_package:f", "no_such_package"),
    ],
)
def test_a_reward_that_is_not_there_is_named_with_what_is(file, use, message):
    with pytest.raises(RewardError, match=message):
        rewards.load(use.format(file=file))


@pytest.mark.parametrize(
    ("name", "args"), [("brevity", {"max_token": 3}), ("Counting", {}), ("Counting", {"begin": 1})]
)
def test_arguments_that_do_not_fit_are_refused_with_those_that_do(file, name, args):
    with pytest.raises(RewardError, match=r"max_tokens=10|start"):
        rewards.load(f"{file}:{name}", **args)


def test_arguments_that_a_class_refuses_are_named(file):
    with pytest.raises(RewardError, match=r"soft_overlong: args .* not accepted: TypeError"):
        rewards.load("soft_overlong", max_tokens="many", cache_tokens=5)


def test_a_file_that_cannot_be_loaded_is_named(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    with pytest.raises(RewardError, match=r"broken.py.*SyntaxError"):
        rewards.load(f"{broken}:f")


@pytest.mark.parametrize(
    ("name", "scores"), [("brevity", [0.5, 0.5]), ("patient", [1.0, 1.0]), ("nothing", [None, None])]
)
def test_functions_sync_and_async_are_scored(file, name, scores):
    reward_set = built(file, name)
    try:
        assert called(reward_set) == scores
    finally:
        reward_set.close()


def test_a_custom_reward_runs_in_a_process_of_its_own_and_keeps_its_state(file):
    apart, counting = built(file, "process"), built(file, "Counting", args={"start": 0})
    try:
        here = float(subprocess.os.getpid())
        assert called(apart)[0] != here
        assert [called(counting)[0] for _ in range(3)] == [1.0, 2.0, 3.0]
    finally:
        apart.close()
        counting.close()


def test_nothing_of_a_custom_reward_runs_in_the_process_that_trains(tmp_path):
    """Neither its module nor its class: an import that ends the process, or never ends, is an error and no more."""
    (tmp_path / "mine.py").write_text(
        "import os\n"
        f"pids = open({str(tmp_path / 'pids')!r}, 'a')\n"
        "print(os.getpid(), file=pids, flush=True)\n"
        "class Score:\n"
        "    def __init__(self):\n"
        "        print(os.getpid(), file=pids, flush=True)\n"
        "    def __call__(self, completions, **kwargs):\n"
        "        return [0.0] * len(completions)\n"
    )
    (tmp_path / "ends.py").write_text("import os\nos._exit(3)\n")
    reward_set = RewardSet([RewardSpec(use="mine.py:Score")], RewardContext(folder=tmp_path))
    try:
        assert called(reward_set) == [0.0, 0.0] and reward_set.functions[0].__name__ == "Score"
    finally:
        reward_set.close()
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2 and str(subprocess.os.getpid()) not in pids
    with pytest.raises(RewardError, match=r"reward .*ends.py:score: .*the scoring process died \(exit status 3\)"):
        RewardSet([RewardSpec(use="ends.py:score")], RewardContext(folder=tmp_path))


def test_the_trainers_state_and_logs_reach_it(file):
    reward_set, logged = built(file, "steps"), {}
    try:
        state = SimpleNamespace(global_step=7)
        scores = called(reward_set, trainer_state=state, log_metric=logged.__setitem__, log_extra=logged.__setitem__)
        assert scores == [7.0, 7.0]
        assert logged == {"seen": 7.0, "text": ["good", "bad"]}
    finally:
        reward_set.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"my_rewards.py:\d+ raises: row 1 \(id 'b'\): raised ZeroDivisionError.*'bad'"),
        ("too_few", r"my_rewards.py:\d+ too_few: returned 1 values for 2"),
        ("strings", r"my_rewards.py:\d+ strings: row 1 \(id 'b'\): returned 'high'"),
        ("not_a_number", r"my_rewards.py:\d+ not_a_number: row 1 \(id 'b'\): returned nan"),
        ("scalar", r"my_rewards.py:\d+ scalar: returned 1.0"),
        ("hangs", r"my_rewards.py:\d+ hangs: past its deadline of 1 s: row 1 \(id 'b'\): completion 'bad'"),
        ("dies", r"my_rewards.py:\d+ dies: the scoring process died \(exit status 3\): row 1 \(id 'b'\)"),
    ],
)
def test_a_broken_contract_names_file_function_row_and_value(file, name, message):
    reward_set = built(file, name, deadline_s=1 if name == "hangs" else HANG_S)
    try:
        with pytest.raises(RewardError, match=message):
            called(reward_set, id=["a", "b"])
    finally:
        reward_set.close()


@pytest.mark.parametrize("name", ["raises", "too_few", "strings", "not_a_number", "hangs", "dies"])
def test_on_error_skip_counts_and_goes_on(file, name):
    reward_set = built(file, name, on_error="skip", deadline_s=1 if name == "hangs" else HANG_S)
    try:
        assert called(reward_set) == [None, None]
        assert reward_set.functions[0].counted[Verdict.SCORER_FAILED] == 2
        if name != "too_few":
            assert None not in called(reward_set, completions=("good", "good"))
    finally:
        reward_set.close()


def test_a_hanging_reward_holds_nobody(file):
    reward_set = built(file, "hangs", on_error="skip", deadline_s=1)
    try:
        called(reward_set, completions=("good",))
        began = time.monotonic()
        assert called(reward_set, completions=("bad",)) == [None]
        assert time.monotonic() - began < HANG_S
    finally:
        reward_set.close()


def test_loaded_functions_can_be_pickled(file):
    assert pickle.loads(pickle.dumps(rewards.load(f"{file}:brevity", max_tokens=3))).keywords == {"max_tokens": 3}


def test_built_in_rewards_can_be_pickled():
    for use in ("accuracy", "format", "language", "kimi_length", "repetition", "tag_count", "reasoning_steps"):
        assert pickle.loads(pickle.dumps(rewards.load(use))).__name__ == use


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("brevity", 0, "contract kept"),
        ("patient", 0, "contract kept"),
        ("by_order", 1, "must not depend on order"),
        ("too_few", 1, "expected one a completion"),
        ("unpicklable", 1, "cannot be pickled"),
        ("of_keywords", 1, "It was tried on the built-in rows, whose columns are id, language, question"),
    ],
)
def test_check_tries_a_reward_and_says_what_it_breaks(file, capsys, name, status, message):
    assert rewards.check(f"{file}:{name}") == status
    assert message in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("use", ["accuracy", "format", "language", "kimi_length", "repetition", "tag_count"])
def test_check_passes_the_built_in_rewards(capsys, use):
    assert rewards.check(use) == 0
    assert "contract kept" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("line", "fault"),
    [("not json", "not JSON"), ("[1]", "expected an object"), ('{"prompt": "q"}', "completion is None")],
)
def test_check_names_file_and_line_of_a_bad_row(tmp_path, capsys, line, fault):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "a"}\n' + line + "\n")
    assert rewards.check("format", rows) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert fault in said and "line 2" in said and "rows.jsonl" in said.replace(" ", "")


def test_check_scores_the_users_own_rows(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"completion": "<answer> 4 </answer>", "verifier": "exact", "answer": "4"}\n')
    assert rewards.check("accuracy", rows) == 0
    assert "on 1 rows" in capsys.readouterr().out


def test_importing_rewards_brings_in_nothing_heavy():
    heavy = "torch transformers trl math_verify sympy reasoning_gym vllm httpx numpy"
    code = f"import sys, rewards; rewards.names(); print([name for name in '{heavy}'.split() if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_an_async_reward_is_awaited_beside_a_running_event_loop():
    async def later():
        return [1.0]

    async def notebook():
        return awaited(later())

    assert asyncio.run(notebook()) == [1.0]
