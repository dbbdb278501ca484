"""The command line as a user meets it: exit codes, one clear line for each mistake, no traceback."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

STEPS = "stages.r1_zero.grpo.max_steps=100000"


def pipeline(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "pipeline", *arguments], capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "r2-zero"], "No stage 'r2-zero'"),
        (["run", "all", "--profile", "nope"], "No profile 'nope'"),
        (["run", "all", "--set", "stages.r1_zero.grpo.max_stepz=3"], "max_stepz"),
        (["run", "all", "--set", "'"], "SET"),
        (["run", "base_model", "--set", "stages.base_model.teacher=pocket:nobody"], "No pocket base 'nobody'"),
        (["run", "base_model", "--set", "stages.base_model.teacher=folder:nowhere"], "no config.json"),
        (["run", "base_model", "--set", "stages.base_model.teacher=gguf:nowhere.gguf"], "no such file"),
        (["run", "base_model", "--set", "stages.base_model.teacher=nowhere"], "No model source"),
        (["check", "--set", "stages.r1_zero.rewards='[{use: acuracy}]'"], "acuracy"),
        (["check", "--set", "questions.reasoning='[{use: jsonl:nothere.jsonl}]'"], "nothere.jsonl"),
        (["status", "--run", "../elsewhere"], "folder name"),
        (["claims", "--seeds", "one"], "whole numbers"),
        (["check-reward", "acuracy"], "acuracy"),
        (["pocket-bases", "nobody"], "No recipe"),
        (["verify", "nothere"], "no run 'nothere'"),
        (["explain", "nothere", "sft"], "no run 'nothere'"),
    ],
)
def test_a_mistake_is_told_in_words_with_exit_code_2(arguments, part):
    done = pipeline(*arguments)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_code_2():
    assert pipeline("climb").returncode == 2


@pytest.mark.parametrize("arguments", [["status"], ["check"]])
def test_status_and_check_load_no_heavy_library(arguments):
    """They must answer at once, and torch alone takes seconds to import."""
    code = (
        "import sys; from pipeline.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'vllm', 'trl', 'transformers', 'datasets'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


def test_check_shows_the_arithmetic_and_tries_the_rewards():
    done = pipeline("check")
    assert done.returncode == 0, done.stderr
    assert "16 questions × 16 = 256" in done.stdout
    assert "accuracy" in done.stdout


def test_ctrl_c_is_exit_code_130_leaves_a_checkpoint_and_says_how_to_go_on():
    """The run is far too long to end by itself, and is interrupted once its first step has been written down."""
    run = Path("runs/test-interrupt")
    shutil.rmtree(run, ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "r1_zero", "--profile", "smoke", "--run", run.name,
         "--set", STEPS],
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    try:
        threading.Thread(target=_interrupt_after_the_first_step, args=(process, run), daemon=True).start()
        _, told = process.communicate(timeout=900)
        [partial] = run.glob(".partial/r1_zero-*")
        steps = len((partial / "metrics.jsonl").read_text().splitlines())
        assert (partial / "trainer" / f"checkpoint-{steps}").is_dir()
        status = pipeline("status", "--profile", "smoke", "--run", run.name, "--set", STEPS).stdout
        assert f"resumable at step {steps} of 100000" in " ".join(status.split())
    finally:
        process.kill()
        shutil.rmtree(run, ignore_errors=True)
    assert process.returncode == 130, told
    assert "Stopping after this step" in told and "same command to go on" in told


def _interrupt_after_the_first_step(process: subprocess.Popen, run: Path) -> None:
    while process.poll() is None:
        if any(path.stat().st_size for path in run.glob(".partial/r1_zero-*/metrics.jsonl")):
            return process.send_signal(signal.SIGINT)
        time.sleep(0.05)


def test_a_context_longer_than_the_models_is_refused():
    done = pipeline("check", "--set", "engine.max_model_len=4096")
    assert done.returncode == 2
    assert "4096" in done.stderr and "512" in done.stderr
