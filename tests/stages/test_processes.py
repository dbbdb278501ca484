"""Stages by two processes: what they make together is what one makes, and one that fails ends them all.

One climb serves most tests; it takes about half a minute on two cores.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_recipes.templates import chat_prompt
from pipeline.config.loading import load_profile
from pipeline.core.files import read_json_lines
from pipeline.core.manifest import Manifest
from pipeline.runs.folder import RUNS
from rewards import judge_answers

RUN = "test-two-processes"
OVERRIDES = (
    "stages.r1_zero.grpo.dynamic_sampling=2 stages.r1_zero.grpo.log_rollouts_every=1 "
    "stages.reward_model.lora.rank=4 stages.cold_start_data.max_rows=32 stages.cold_start_sft.sft.epochs=1"
)
FAILING = '''
"""A reward that fails in the second process at its third call, until it is told not to."""
import os, signal
calls = 0

def flaky(completions, **_):
    global calls
    calls += 1
    if calls == 3 and os.environ["RANK"] == "1" and os.environ["FAILURE"] == "error":
        raise ValueError("the scorer is gone")
    if calls == 3 and os.environ["RANK"] == "1" and os.environ["FAILURE"] == "death":
        stat = open(f"/proc/{os.getppid()}/stat").read()  # rewards run in a worker of a worker of the process
        os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    return [float(len(text) % 2) for text in completions]
'''


def climb(stage: str, run: str = RUN, overrides: str = "", failure: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "run", stage, "--processes", "2", "--profile", "smoke", "--run", run,
         "--set", f"engine.kind=transformers {overrides}"],
        capture_output=True, text=True, timeout=3600, env=os.environ | {"FAILURE": failure, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Path:
    shutil.rmtree(RUNS / RUN, ignore_errors=True)
    done = climb("reward_model", overrides=OVERRIDES)
    assert done.returncode == 0, done.stdout + done.stderr
    yield RUNS / RUN
    shutil.rmtree(RUNS / RUN)


@pytest.fixture
def run_of_its_own(request) -> str:
    name = f"test-{request.node.name.replace('_', '-')[:60]}"
    shutil.rmtree(RUNS / name, ignore_errors=True)
    yield name
    shutil.rmtree(RUNS / name, ignore_errors=True)


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_json_lines(path)]


def test_the_manifests_say_how_many_processes_made_a_stage(run):
    assert {Manifest.read(run / stage).devices for stage in ("r1_zero", "cold_start_data", "sft")} == {"2 × cpu"}


def test_each_question_is_sampled_once(run):
    sampled = rows_of(run / "cold_start_data" / "dropped.jsonl")
    sampled += [{**row, "question_id": row["id"]} for row in rows_of(run / "cold_start_data" / "rows.jsonl")]
    settings = load_profile("smoke").profile.stages.cold_start_data
    asked = [(row["question_id"], row["sample"]) for row in sampled]
    assert len(asked) == len(set(asked)) == settings.questions["reasoning"] * settings.samples_per_question


def test_held_out_answers_come_back_to_their_questions(run):
    from pipeline.steps.questions import evaluation_questions

    profile = load_profile("smoke").profile
    questions = evaluation_questions(profile, "reasoning")[: profile.stages.r1_zero.heldout.questions]
    for path in (run / "r1_zero" / "heldout").glob("*.jsonl"):
        assert list(dict.fromkeys(row["question"] for row in rows_of(path))) == [q.question for q in questions]


def test_rollouts_count_the_completions_of_both(run):
    grpo = load_profile("smoke").profile.stages.r1_zero.grpo
    steps = rows_of(run / "r1_zero" / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    asked = grpo.prompts_per_step * grpo.group_size
    assert {step["rows"] for step in steps} == {asked}
    judged = [sum(step["verdicts"]["accuracy"].values()) for step in steps]
    more = 2 * grpo.group_size  # of each round that replaces flat groups: as many questions in both
    assert min(judged) >= asked and all((count - asked) % more == 0 for count in judged)


def test_groups_that_replace_flat_ones_are_whole(run):
    """Whichever process wrote them: one question a group, and rewards that its completions have earned."""
    steps = rows_of(run / "r1_zero" / "metrics.jsonl")
    assert sum(step["zero_spread"] - step["zero_spread_after_resampling"] for step in steps) > 0
    size = load_profile("smoke").profile.stages.r1_zero.grpo.group_size
    for path in (run / "r1_zero" / "rollouts").glob("*.jsonl"):
        rows = rows_of(path)
        for first in range(0, len(rows), size):
            group = rows[first : first + size]
            assert len({row["id"] for row in group}) == 1
            columns = [{"answer": row["answer"], "verifier": "math"} for row in group]
            verdicts = judge_answers([row["completion"] for row in group], columns, True)
            assert [row["rewards"]["accuracy"] for row in group] == [verdict.score for verdict in verdicts]


def test_sft_gives_what_one_process_gives(run, tmp_path):
    """In one epoch of whole batches. Several processes fill the last one from the epoch's start, and shuffle the next
    epoch otherwise."""
    from transformers import AutoTokenizer

    from pipeline.steps.context import StageContext
    from pipeline.training.sft import train_sft

    profile = load_profile("smoke", OVERRIDES.split()).profile
    base, rows = run / "base_model" / "checkpoint", rows_of(run / "cold_start_data" / "rows.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(base)
    seed = StageContext("cold_start_sft", "", profile, None, {}, tmp_path, "cpu", None, None, None).seed
    train_sft(
        model_path=base,
        tokenizer=tokenizer,
        prompts=[chat_prompt(tokenizer, row["question"]) for row in rows],
        responses=[row["response"] for row in rows],
        settings=profile.stages.cold_start_sft.sft,
        output=tmp_path,
        seed=seed,
        device="cpu",
        dtype=profile.dtype,
        on_step=lambda *_: None,
    )
    start, together, alone = (
        load_file(folder / "model.safetensors")
        for folder in (base, run / "cold_start_sft/checkpoint", tmp_path / "checkpoint")
    )
    for name in start:
        assert (together[name] - alone[name]).norm() <= 1e-3 * (alone[name] - start[name]).norm(), name


def test_a_scorers_adapters_are_kept_beside_it(run):
    assert (run / "reward_model" / "helpful-adapter" / "adapter_config.json").is_file()
    start, scorer = (
        load_file(run / "sft/checkpoint/model.safetensors"),
        load_file(run / "reward_model/helpful/model.safetensors"),
    )
    changed = {name for name in start.keys() & scorer.keys() if not torch.equal(start[name], scorer[name])}
    assert changed and all("proj.weight" in name for name in changed)


def test_a_reward_that_fails_in_one_process_costs_no_step(run_of_its_own, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    rewards = f"'stages.r1_zero.rewards=[{{use: accuracy}},{{use: \"{tmp_path}/failing.py:flaky\"}}]'"
    failed = climb("r1_zero", run_of_its_own, rewards, "error")
    assert failed.returncode == 1
    assert "\nerror: process 1: reward" in failed.stderr and "the scorer is gone" in failed.stderr
    assert "Traceback" not in failed.stderr
    done = climb("r1_zero", run_of_its_own, rewards)
    assert done.returncode == 0, done.stderr
    assert "resumable at step 2 of 4" in done.stderr
    steps = rows_of(RUNS / run_of_its_own / "r1_zero" / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]


def test_a_process_that_dies_ends_the_others(run_of_its_own, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    rewards = f"'stages.r1_zero.rewards=[{{use: accuracy}},{{use: \"{tmp_path}/failing.py:flaky\"}}]'"
    died = climb("r1_zero", run_of_its_own, rewards, "death")
    assert died.returncode == 128 + 9
    assert "Traceback" not in died.stderr


def test_batches_that_do_not_divide_are_told_before_anything_starts(run_of_its_own):
    refused = climb("r1_zero", run_of_its_own, "stages.r1_zero.grpo.prompts_per_step=3")
    assert refused.returncode == 2
    assert refused.stderr.count("stages.r1_zero.grpo.prompts_per_step is 3") == 1
    assert "Traceback" not in refused.stderr and not (RUNS / run_of_its_own).exists()


def test_the_slurm_script_starts_a_run_on_what_the_job_has(run_of_its_own, tmp_path):
    """With stand-ins for Slurm's commands: one node, two processes; more nodes are listed than a pipe holds."""
    for name, body in {"srun": 'shift 2; exec "$@"', "scontrol": "echo localhost; seq 200000"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "nodes", "SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2"}
    job["SLURM_GPUS_ON_NODE"] = "2"
    chosen = {"PROFILE": "smoke", "STAGE": "base_model", "RUN": run_of_its_own, "PORT": "0"}
    done = subprocess.run(
        ["bash", "configs/slurm/nodes.sbatch"], capture_output=True, text=True, timeout=900,
        env=os.environ | job | chosen | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Manifest.read(RUNS / run_of_its_own / "base_model").processes == 2
    missing = {name: value for name, value in os.environ.items() if name != "PROFILE"} | job
    refused = subprocess.run(
        ["bash", "configs/slurm/nodes.sbatch"], capture_output=True, text=True, timeout=900, env=missing
    )
    assert refused.returncode != 0 and "names a profile" in refused.stderr
