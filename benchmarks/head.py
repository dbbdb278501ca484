"""The language model head on a CPU: ours beside TRL's, forward and backward, on the same inputs.

    python -m benchmarks.head [--rows 1140] [--repeats 5] [--out FILE]

SmolLM2-135M's shape (width 576, vocabulary 49,152), float32 weights, entropies asked for as in RL. Both are measured
in one process, alternating; the fastest of the repeats counts. Run it on a quiet machine.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
from trl.kernels import ChunkedLogProbFunction

from pipeline.training.packed.attention import VOCABULARY_CHUNK
from pipeline.training.packed.head import HeadLogProbs

WIDTH, VOCABULARY = 576, 49_152


def ours(hidden, weight, labels):
    return HeadLogProbs.apply(hidden, weight, None, labels, 1.0, True)[0]


def trl(hidden, weight, labels):
    return ChunkedLogProbFunction.apply(hidden, weight, None, labels, 1.0, VOCABULARY_CHUNK, None, 1.0, ("entropy",))[0]


def timed(head, hidden, weight, labels, autocast: bool) -> tuple[float, torch.Tensor]:
    """(seconds of forward and backward, gradient of the hidden states)."""
    hidden.grad = weight.grad = None
    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        log_probs = head(hidden, weight, labels)
    log_probs.mean().backward()
    return time.perf_counter() - started, hidden.grad.clone()


def compare(rows: int, repeats: int, autocast: bool) -> dict:
    torch.manual_seed(0)
    hidden = torch.randn(rows, WIDTH, requires_grad=True)
    weight = (0.04 * torch.randn(VOCABULARY, WIDTH)).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (rows,))
    seconds, gradients = {"ours": [], "TRL": []}, {}
    for _ in range(repeats + 1):  # the first one warms up
        for name, head in (("ours", ours), ("TRL", trl)):
            took, gradients[name] = timed(head, hidden, weight, labels, autocast)
            seconds[name].append(took)
    best = {name: min(times[1:]) for name, times in seconds.items()}
    difference = (gradients["ours"] - gradients["TRL"]).norm() / gradients["TRL"].norm()
    return {
        **{f"{name}, seconds": round(value, 3) for name, value in best.items()},
        "times faster": round(best["TRL"] / best["ours"], 2),
        "gradient difference": difference.item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1140)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/head.json"))
    options = parser.parse_args()
    results = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "rows": options.rows,
        "bfloat16": compare(options.rows, options.repeats, True),
        "float32": compare(options.rows, options.repeats, False),
    }
    print(json.dumps(results, indent=2))
    options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
