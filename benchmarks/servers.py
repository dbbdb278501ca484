"""Weights into vLLM servers, and sampling through them, against transformers and against vLLM in the process.

    make prove-servers

Starts two CPU servers on two pocket bases (both with a tied head), hands over a policy that a large update has changed,
and compares the log-probabilities that the servers report with those of transformers under the new weights; then under
the old ones, and again. Then the same prompts are sampled by two servers and by vLLM in this process, at the same
number of threads in all, each twice; the second time counts. Written to `benchmarks/results/servers.json`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from data_recipes.pocket.bases import base_folder
from pipeline.core.files import write_durably
from pipeline.core.versions import code_version, package_versions
from pipeline.engines import Completion, Engine, EngineSettings, Sampling, open_engine

RESULTS = Path("benchmarks/results/servers.json")
BASES = ("teacher", "student-llama")
MEAN_GAP, LARGEST_GAP, LEAST_RATE = 1e-6, 5e-5, 0.9
PROMPTS = [f"User: {a} + {b} - {a % 7} = ? Assistant:" for a in range(10, 42) for b in (3, 8)]
SERVERS = 2


def moved(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The model after an update that changes every weight by a tenth of what weights of its matrix are like."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.1 * noise * (parameter.std() if parameter.numel() > 1 else parameter.abs())
    return model


@torch.no_grad()
def gaps(model: torch.nn.Module, prompts: list[list[int]], groups: list[list[Completion]]) -> torch.Tensor:
    """Differences of what the engine reported and what `model` gives, one a token."""
    found = []
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            logits = model(torch.tensor([prompt + completion.token_ids])).logits[0, len(prompt) - 1 : -1].float()
            ours = logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
            found.append((ours - torch.tensor(completion.logprobs)).abs())
    return torch.cat(found)


def prove_sync(base: str, servers: int, samples: int) -> dict:
    folder = base_folder(base)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    figures = {"base": base, "tied": bool(model.config.tie_word_embeddings), "syncs": []}
    settings = EngineSettings(
        kind="vllm-server", servers=servers, dtype="float32", max_model_len=256, max_sequences=64
    )  # fmt: skip
    sampling = Sampling(max_tokens=48, seed=1)
    with open_engine(settings, folder) as engine:
        prompts = [engine.encode(prompt) for prompt in PROMPTS[:samples]]
        for update in range(3):
            before = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            before.load_state_dict(model.state_dict())
            began = time.perf_counter()
            engine.sync_weights(moved(model, update))
            seconds = time.perf_counter() - began
            groups = engine.generate(prompts, 2, sampling)
            now, then = gaps(model, prompts, groups), gaps(before, prompts, groups)
            figures["syncs"].append(
                {
                    "mean": now.mean().item(), "largest": now.max().item(), "to the old weights": then.mean().item(),
                    "seconds": round(seconds, 3), "tokens": len(now),
                }
            )  # fmt: skip
    return figures


def rate(engine: Engine, samples: int) -> float:
    """Completion tokens a second, the second time that the prompts are asked."""
    for seed in (1, 2):
        tokens, began = engine.stats.tokens, time.perf_counter()
        engine.generate(PROMPTS, samples, Sampling(max_tokens=96, seed=seed))
        figure = (engine.stats.tokens - tokens) / (time.perf_counter() - began)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=16, help="for each comparison of log-probabilities")
    parser.add_argument("--samples", type=int, default=16, help="of each prompt, where speed is measured")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    told = {"cores": os.cpu_count(), "code": code_version(), "packages": package_versions(), "sync": []}
    os.environ["OMP_NUM_THREADS"] = "1"  # of each server
    for base in BASES:
        told["sync"].append(prove_sync(base, SERVERS, options.prompts))
        print(json.dumps(told["sync"][-1]), flush=True)
    folder = base_folder("teacher")
    common = {"dtype": "float32", "max_model_len": 256, "max_sequences": 512}
    with open_engine(EngineSettings(kind="vllm-server", servers=SERVERS, **common), folder) as engine:
        apart = rate(engine, options.samples)
    torch.set_num_threads(SERVERS)
    os.environ["OMP_NUM_THREADS"] = str(SERVERS)
    with open_engine(EngineSettings(kind="vllm", **common), folder) as engine:
        inside = rate(engine, options.samples)
    told |= {"tokens_s_servers": round(apart), "tokens_s_inside": round(inside), "ratio": round(apart / inside, 3)}
    syncs = [sync for base in told["sync"] for sync in base["syncs"]]
    exact = all(sync["mean"] <= MEAN_GAP and sync["largest"] <= LARGEST_GAP for sync in syncs)
    told["passed"] = exact and all(sync["to the old weights"] > 1e-3 for sync in syncs) and apart >= LEAST_RATE * inside
    write_durably(options.results, json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    return 0 if told["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
