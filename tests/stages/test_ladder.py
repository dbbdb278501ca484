"""The whole ladder at smoke size: every stage for real, with vLLM, from the committed pocket bases.

One run serves all tests here; it takes a minute or two on two cores.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.loading import load_profile
from pipeline.core.files import read_json_lines
from pipeline.core.manifest import Manifest
from pipeline.ladder import LADDER, STAGES, needed_for
from pipeline.runs.folder import RUNS
from pipeline.steps.questions import held_out_texts

RUN = "test-smoke-ladder"


CANARY = "hf_canaryCANARYcanaryCANARY0123456789"
SECRETS = dict.fromkeys(("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "VLLM_API_KEY", "MY_PASSWORD"), CANARY)


def command(*arguments: str, run: str = RUN) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments, "--profile", "smoke", "--run", run],
        capture_output=True, text=True, timeout=3600, env=os.environ | SECRETS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Path:
    shutil.rmtree(RUNS / RUN, ignore_errors=True)
    done = command("run", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    yield RUNS / RUN
    shutil.rmtree(RUNS / RUN)


def test_every_stage_is_done(run):
    for stage in LADDER:
        manifest = Manifest.read(run / stage.id)
        assert manifest is not None, stage.id
        assert manifest.outputs, stage.id
        assert (run / stage.id / "log.txt").is_file()


def test_no_secret_of_the_environment_is_in_the_run_folder(run):
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_every_file_is_what_its_manifest_says(run):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "verify", RUN], capture_output=True, text=True, timeout=900
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{len(LADDER)} finished stages" in done.stdout


def test_the_same_seed_gives_the_same_data_byte_for_byte(run):
    """Up to the second data stage, on this machine: rows, dropped samples, and the checkpoints that wrote them."""
    again = f"{RUN}-again"
    shutil.rmtree(RUNS / again, ignore_errors=True)
    try:
        done = command("run", "rejection_sampling", run=again)
        assert done.returncode == 0, done.stderr
        for stage in needed_for(STAGES["rejection_sampling"]):
            first, second = Manifest.read(run / stage.id), Manifest.read(RUNS / again / stage.id)
            assert first.outputs == second.outputs, stage.id
            if (run / stage.id / "dropped.jsonl").is_file():
                assert first.records["dropped.jsonl"] == second.records["dropped.jsonl"]
    finally:
        shutil.rmtree(RUNS / again, ignore_errors=True)


def test_a_second_run_does_nothing(run):
    before = {stage.id: (run / stage.id / "manifest.json").stat().st_mtime_ns for stage in LADDER}
    done = command("run", "all")
    assert done.returncode == 0, done.stderr
    assert {stage.id: (run / stage.id / "manifest.json").stat().st_mtime_ns for stage in LADDER} == before
    assert "R1-Zero" in done.stdout and "qwen distilled" in done.stdout


@pytest.mark.parametrize(
    "folder",
    [
        "r1_zero/checkpoint", "general_rl/checkpoint", "student_rl/checkpoint",
        "distill/students/qwen/checkpoint", "distill/students/llama/checkpoint",
    ],
)  # fmt: skip
def test_checkpoints_are_plain_and_load_in_transformers(run, folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert (run / folder / "model.safetensors").is_file()
    model, info = AutoModelForCausalLM.from_pretrained(run / folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(run / folder).chat_template
    assert (
        {"qwen": "qwen2", "llama": "llama"}.get(folder.split("/")[2], model.config.model_type)
        == model.config.model_type
        if folder.startswith("distill")
        else True
    )


@pytest.mark.parametrize("student", ["qwen", "llama"])
def test_students_write_the_same_greedy_text_in_transformers_and_in_vllm(run, student):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pipeline.engines import EngineSettings, Sampling, open_engine

    folder = run / "distill" / "students" / student / "checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = ["User: What is 12+5-3? Assistant:", "User: 计算40-7。 Assistant:"]
    plain = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
        plain.append(tokenizer.decode(out).split(tokenizer.eos_token)[0])
    settings = EngineSettings(dtype="float32", max_model_len=64, max_sequences=8, kv_cache_gib=1)
    with open_engine(settings, folder) as engine:
        groups = engine.generate(prompts, 1, Sampling(max_tokens=24, temperature=0))
    assert [group[0].text for group in groups] == plain


def test_no_training_question_of_any_stage_overlaps_with_a_held_out_one(run):
    profile = load_profile("smoke").profile
    held_out = held_out_texts(profile)
    trained = [row["question"] for path in run.glob("*/rows.jsonl") for _, row in read_json_lines(path)]
    for path in run.glob("*/rollouts/*.jsonl"):
        for _, row in read_json_lines(path):
            trained.append(row["prompt"].removeprefix("User: ").removesuffix(" Assistant:"))
    trained += [row["question"] for path in run.glob("reward_model/pairs-*.jsonl") for _, row in read_json_lines(path)]
    assert len(trained) > 100
    assert not [question for question in trained if held_out.overlap(question)]


def test_every_sample_is_kept_or_dropped_with_a_reason(run):
    for stage in ("cold_start_data", "rejection_sampling"):
        metrics = Manifest.read(run / stage).metrics
        dropped = [row for _, row in read_json_lines(run / stage / "dropped.jsonl")]
        assert metrics["samples"] == metrics["rows"] + len(dropped)
        assert all(row["reason"] for row in dropped)


def test_general_rows_join_the_reasoning_rows(run):
    sources = [row["source"] for _, row in read_json_lines(run / "rejection_sampling" / "rows.jsonl")]
    assert {"general", "rejection_sampling"} == set(sources)


def test_reward_models_count_only_from_their_step_on(run):
    steps = [row for _, row in read_json_lines(run / "general_rl" / "metrics.jsonl")]
    scored = [[row["rewards"][name] for name in ("helpful", "harmless")] for row in steps]
    assert scored[0] == [None, None]
    assert any(value is not None for row in scored[1:] for value in row)


def test_the_longest_completion_follows_its_schedule(run):
    first = [row["tokens"] for _, row in read_json_lines(run / "r1_zero" / "rollouts" / "step-000001.jsonl")]
    assert max(first) <= 48


def test_student_rl_takes_the_tokens_that_distillation_took_or_says_that_it_could_not(run):
    budget = Manifest.read(run / "distill").tokens["qwen"]
    seen = Manifest.read(run / "student_rl").tokens["seen"]
    log = (run / "student_rl" / "log.txt").read_text()
    assert seen >= budget or "stopped at grpo.max_steps" in log


def test_the_results_carry_their_settings(run):
    found = json.loads((run / "evaluate" / "results.json").read_text())
    assert found["settings"]["sampling"]["temperature"] == 0.6
    assert set(found["results"]) == {
        "base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1", "qwen base", "llama base", "qwen distilled",
        "llama distilled", "qwen RL",
    }  # fmt: skip


def test_the_report_is_one_file(run):
    page = (run / "report" / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "R1-Zero" in page
