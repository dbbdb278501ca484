"""What this code does more quickly than an earlier commit's, side by side: one command for every claim of speed.

    python -m benchmarks.earlier [--commit 4037cc2] [--pairs 7] [--only PIECE …] [--out FILE]

The earlier code is unpacked in a temporary folder and runs in processes of its own, on the same packages. Pieces of
work alternate, A B, B A, …, each in a process that stays warm; the ratio is the median of the pairs' ratios, in CPU
seconds of a process with one thread, so that other work on the machine disturbs both alike. About a quarter of an hour
on two quiet cores. `benchmarks.grpo` compares whole RL steps with stock TRL.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMIT = "4037cc2"
TO_REACH = {
    "engine, pocket": 4.0,
    "engine, SmolLM2": 2.0,
    "update, pocket": 1.25,
    "update, SmolLM2": 1.14,
    "SFT, pocket": 1.5,
    "reward model, pocket": 1.5,
}
"""Pieces, and the least ratio that is claimed."""


class Side:
    """A piece of work that one of the two codes does in a process of its own."""

    def __init__(self, code: Path, piece: str, folder: Path):
        environment = os.environ | {
            "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
            "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        self._log = folder / f"{code.name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(ROOT / "benchmarks" / "earlier_piece.py"), piece],
                cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._line()

    def once(self) -> dict:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        """What the piece writes; some libraries write to the same place."""
        for line in self._process.stdout:
            if line.startswith(("ready", '{"cpu"')):
                return line
        raise RuntimeError(f"a piece ended early: {self._log.read_text()[-2000:]}")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def compare(piece: str, earlier: Path, pairs: int, folder: Path) -> dict:
    sides = [Side(ROOT, piece, folder), Side(earlier, piece, folder)]
    try:
        measured = []
        for number in range(pairs):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            found = {which: sides[which].once() for which in order}
            measured.append([found[0], found[1]])
    finally:
        for side in sides:
            side.close()
    rates = [[one["amount"] / one["cpu"] for one in pair] for pair in measured]
    ratios = [ours / theirs for ours, theirs in rates]
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    return {
        "a CPU second": round(ours),
        "earlier": round(theirs),
        "ratio": round(statistics.median(ratios), 2),
        "of pairs": [round(ratio, 2) for ratio in ratios],
        "to reach": TO_REACH[piece],
        "peak MiB": [side["peak MiB"] for side in measured[-1]],
        "load": [round(one, 1) for one in os.getloadavg()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", default=COMMIT)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=list(TO_REACH), default=list(TO_REACH))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        earlier = Path(scratch) / "earlier"
        earlier.mkdir()
        packed = subprocess.run(["git", "-C", str(ROOT), "archive", options.commit], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(earlier)], input=packed.stdout, check=True)
        for piece in options.only:
            results[piece] = compare(piece, earlier, options.pairs, Path(scratch))
            print(f"{piece:22s} {json.dumps(results[piece])}", flush=True)
    if options.out:
        options.out.write_text(json.dumps({"commit": options.commit, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
