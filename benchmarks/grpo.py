"""How fast GRPO is here, beside stock TRL on the same completions, engine and machine.

    python -m benchmarks.grpo [update step rollout memory] [--completions 64] [--policy CHECKPOINT] [--out FILE]

- update: everything between scored completions and gradients, ours against stock TRL with vLLM's importance correction
  on, as is its default; with half of the groups without reward spread and with none. 64 completions of mean 60 and max
  170 tokens on a model of SmolLM2-135M's shape with random weights. Loss and gradient norm are compared as well.
- step: whole R1-Zero steps of the pocket profile (of the base, or of a later checkpoint, which writes otherwise): ours,
  ours with rollouts a step ahead, stock TRL on the same vLLM, stock TRL with `generate`.
- rollout: tokens a second of our engine and of a bare `LLM.generate` on the same prompts.
- memory: peak of the update over the memory before it, at several numbers of completions.

Utilisation is the floating point operations that the update needs (6 a parameter and token, 8 for the language model
head, whose logits are computed again in the backward pass) over time and over the matrix product peak measured in the
same run. Run it on a quiet machine: two jobs on two cores slow each other many times over.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback

from benchmarks.grpo_rollouts import bench_rollout, bench_step, show
from data_recipes.pocket.bases import BASES
from pipeline.config.grpo import GRPOSettings
from tests.pipeline.engines.tiny import tiny_tokenizer
from tests.pipeline.training.grpo.cases import END, make_trainer

GROUP = 8
PROMPT_TOKENS = 40
MEAN_TOKENS, MAX_TOKENS = 60, 170
STOCK_MICRO_BATCH = 16
"""Stock TRL pads every micro-batch to the longest of all completions, so its time hardly depends on this."""


def smollm2_shape(folder: Path) -> Path:
    """A random checkpoint of SmolLM2-135M's shape."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_theta=100_000.0,
        eos_token_id=END,
        pad_token_id=0,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def completions_given(count: int, flat_share: float) -> dict[str, dict]:
    """Prompts with `GROUP` completions each of very unequal lengths, and rewards; a share of groups without spread."""
    rng = random.Random(0)
    cases = {}
    groups = count // GROUP
    for g in range(groups):
        prompt = "".join(rng.choice("abcdefgh ") for _ in range(PROMPT_TOKENS - 3)) + f"{g:03d}"
        lengths = [min(MAX_TOKENS, max(4, round(rng.lognormvariate(3.85, 0.75)))) for _ in range(GROUP)]
        if g == 0:
            lengths[0] = MAX_TOKENS
        ids = [[rng.randint(4, 255) for _ in range(n - 1)] + [END] for n in lengths]
        flat = g < flat_share * groups
        cases[prompt] = {
            "ids": ids,
            "logprobs": [[-10.8] * len(tokens) for tokens in ids],
            "rewards": [1.0 if flat else rng.random() for _ in range(GROUP)],
        }
    return cases


def update_settings(count: int, **changes) -> GRPOSettings:
    return GRPOSettings.model_validate(
        {
            "prompts_per_step": count // GROUP,
            "group_size": GROUP,
            "rollout_prompts": None,
            "max_steps": 1,
            "max_completion_tokens": MAX_TOKENS,
            "max_completion_schedule": [],
            "beta": 0.0,
            "loss_type": "dapo",
            "max_tokens_per_microbatch": 2048,
        }
        | changes
    )


def apart(function, *args):
    """`function(*args)` in a process of its own, so that no measurement finds memory that another one left."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def timed_update(kind: str, model: str, cases, settings: GRPOSettings, micro_batch: int | None = None) -> dict:
    """One update: seconds from scored completions to gradients, loss, gradient norm, peak memory over the start's."""
    count = settings.completions_per_step
    arguments = {"optim": "sgd"}
    if micro_batch and micro_batch < count:
        parts = count // micro_batch
        arguments |= {
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": parts,
            "steps_per_generation": parts,
        }
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(kind, model, Path(folder), cases, settings, **arguments)
        steps, losses = [], []
        original = trainer.training_step

        def step(*args, **kwargs):
            started = time.perf_counter()
            loss = original(*args, **kwargs)
            steps.append(time.perf_counter() - started)
            losses.append(loss.item())
            return loss

        trainer.training_step = step
        trainer.remove_callback(PrinterCallback)
        with PeakMemory() as memory:
            trainer.train()
        norm = next(e["grad_norm"] for e in trainer.state.log_history if "grad_norm" in e)
    return {"seconds": sum(steps), "loss": sum(losses), "grad_norm": norm, "peak_mib": memory.peak_mib}


class PeakMemory:
    """Highest resident memory over that at the start, in MiB, looked at every 5 ms."""

    def __enter__(self):
        self._process, self._done = psutil.Process(), threading.Event()
        self._start = self._highest = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._done.wait(0.005):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()
        self.peak_mib = (self._highest - self._start) / 2**20


def matmul_peak(seconds: float = 2.0) -> float:
    """GFLOP/s of float32 matrix products of the update's shapes: the best of three sizes."""
    best = 0.0
    for n, k, m in ((2048, 576, 1536), (2048, 1536, 576), (1536, 1536, 1536)):
        a, b = torch.randn(n, k), torch.randn(k, m)
        a @ b
        runs, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds / 3:
            a @ b
            runs += 1
        best = max(best, 2 * n * k * m * runs / (time.perf_counter() - started) / 1e9)
    return best


def needed_gflop(model: str, cases, trained_only: bool) -> float:
    """Floating point operations of an update without padding, prompts shared, in units of 1e9."""
    config = LlamaConfig.from_pretrained(model)
    head = config.vocab_size * config.hidden_size
    attention = (
        config.hidden_size
        * config.hidden_size
        // config.num_attention_heads
        * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    )
    body = config.num_hidden_layers * (attention + 3 * config.hidden_size * config.intermediate_size)
    used = [c for c in cases.values() if not trained_only or len(set(c["rewards"])) > 1]
    scored = sum(len(ids) for case in used for ids in case["ids"])
    prefix = len(used) * (PROMPT_TOKENS - 1)
    return (6 * body * (scored + prefix) + 8 * head * scored) / 1e9


def bench_update(model: str, count: int, repeats: int) -> dict:
    peak = apart(matmul_peak)
    result = {"completions": count, "matmul_peak_gflops": round(peak, 1), "cases": {}}
    for name, flat in (("half of the groups flat", 0.5), ("no group flat", 0.0)):
        cases = completions_given(count, flat)
        stock = apart(timed_update, "stock", model, cases, update_settings(count), STOCK_MICRO_BATCH)
        ours = min(
            (apart(timed_update, "ours", model, cases, update_settings(count)) for _ in range(repeats)),
            key=lambda r: r["seconds"],
        )
        gflop = needed_gflop(model, cases, trained_only=True)
        result["cases"][name] = {
            "stock": stock,
            "ours": ours,
            "times faster": round(stock["seconds"] / ours["seconds"], 2),
            "loss difference": abs(stock["loss"] - ours["loss"]) / max(1e-9, abs(stock["loss"])),
            "gradient norm difference": abs(stock["grad_norm"] - ours["grad_norm"]) / stock["grad_norm"],
            "utilisation": round(gflop / ours["seconds"] / peak, 3),
        }
        show(f"update, {name}", result["cases"][name])
    return result


def bench_memory(model: str) -> dict:
    rows = {}
    for count in (16, 32):
        cases = completions_given(count, 0.0)
        rows[count] = {
            "ours MiB": round(apart(timed_update, "ours", model, cases, update_settings(count))["peak_mib"]),
            f"stock MiB, micro-batch {STOCK_MICRO_BATCH}": round(
                apart(timed_update, "stock", model, cases, update_settings(count), STOCK_MICRO_BATCH)["peak_mib"]
            ),
        }
        show(f"memory of the update, {count} completions", rows[count])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["update", "step", "rollout", "memory"])
    parser.add_argument("--policy", type=Path, default=BASES / "teacher", help="pocket checkpoint for step and rollout")
    parser.add_argument("--completions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/grpo.json"))
    options = parser.parse_args()
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    results = known | {"machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"}
    with tempfile.TemporaryDirectory() as folder:
        model = str(smollm2_shape(Path(folder)))
        if "update" in options.parts:
            results[f"update of {options.completions} completions"] = bench_update(
                model, options.completions, options.repeats
            )
        if "memory" in options.parts:
            results["memory"] = bench_memory(model)
        if "rollout" in options.parts:
            results["rollout"] = bench_rollout(options.policy, options.repeats)
        if "step" in options.parts:
            results[f"step of {options.policy.parent.name}/{options.policy.name}"] = bench_step(options.policy, steps=8)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
