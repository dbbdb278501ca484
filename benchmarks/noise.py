"""What errors of the reward cost, and what the correction for them gives back: R1-Zero with scores flipped on purpose.

    python -m benchmarks.noise [--profile pocket] [--refusals 0.2] [--credits 0.0] [--last 10]

Trains the stage `r1_zero` of the profile three times: with the reward as it is, with that share of the right answers
refused (and of the wrong ones credited), and with the same errors and `rates` that name them. Which answers are hit
depends on the answer alone, so both noisy runs meet the same errors. Prints the true accuracy of the last steps'
answers, from the verdicts, which stay as they are. The runs are `runs/noise-clean`, `noise-injected` and
`noise-corrected`; one that is finished is not made again.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.loading import load_profile
from pipeline.core.errors import RunError
from pipeline.core.files import read_json_lines
from pipeline.ladder import of_kind

STAGE = next(iter(of_kind("rl"))).id
CHILD = """
import json, sys
from benchmarks.noise import main_with_errors
sys.exit(main_with_errors(*json.loads(sys.argv[1])))
"""


def flipped(text: str, share: float) -> bool:
    """Whether the score of this answer is to be wrong: by its hash, so that each run flips the same ones."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) < share * 2**64


def main_with_errors(refusals: float, credits: float, arguments: list[str]) -> int:
    """The ladder's command line with an accuracy reward that errs."""
    from pipeline.cli import main as ladder
    from rewards.builtin.accuracy import Accuracy

    honest = Accuracy.__call__

    def erring(self: Accuracy, prompts: Any, completions: Any, *ids: Any, **columns: Any) -> list[float | None]:
        scores = honest(self, prompts, completions, *ids, **columns)
        return [
            score if score is None or not flipped(str(completion), refusals if score else credits) else 1.0 - score
            for score, completion in zip(scores, completions, strict=True)
        ]

    Accuracy.__call__ = erring
    return ladder(arguments)


def profile_with(profile: str, rates: dict[str, float] | None, folder: Path) -> Path:
    """A profile like another one whose accuracy reward has these rates."""
    loaded = load_profile(profile, []).profile
    rewards = [spec.model_dump(mode="json", exclude_defaults=True) for spec in getattr(loaded.stages, STAGE).rewards]
    for reward in rewards:
        if reward["use"] == "accuracy" and rates:
            reward["rates"] = rates
    path = folder / f"{loaded.name}-{'corrected' if rates else 'plain'}.yaml"
    text = {"extends": profile, "name": path.stem, "stages": {STAGE: {"rewards": rewards}}}
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return path


def accuracy(run: str, last: int) -> float:
    """The true accuracy of the answers of the last steps."""
    records = [row for _, row in read_json_lines(Path("runs") / run / STAGE / "metrics.jsonl")][-last:]
    counts = [record["verdicts"]["accuracy"] for record in records]
    judged = sum(sum(count.values()) for count in counts)
    if not judged:
        raise RunError(f"runs/{run}: the last {last} steps have no verdicts.")
    return sum(count.get("correct", 0) for count in counts) / judged


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--profile", default="pocket")
    arguments.add_argument("--refusals", type=float, default=0.2, help="share of right answers that are refused")
    arguments.add_argument("--credits", type=float, default=0.0, help="share of wrong answers that are credited")
    arguments.add_argument("--last", type=int, default=10, help="steps whose answers are counted")
    options = arguments.parse_args()
    rates = {"false_credit": options.credits, "false_refusal": options.refusals}
    folder = Path("runs")
    folder.mkdir(exist_ok=True)
    found = {}
    for name, errors, known in (("clean", None, None), ("injected", rates, None), ("corrected", rates, rates)):
        path = profile_with(options.profile, known, folder)
        shares = [options.refusals, options.credits] if errors else [0.0, 0.0]
        run = ["run", STAGE.replace("_", "-"), "--profile", str(path), "--run", f"noise-{name}"]
        done = subprocess.run([sys.executable, "-c", CHILD, json.dumps([*shares, run])])
        if done.returncode:
            raise RunError(f"The run noise-{name} ended with {done.returncode}.")
        found[name] = accuracy(f"noise-{name}", options.last)
        print(
            f"{name:10} {100 * found[name]:5.1f} % of the answers of the last {options.last} steps are right",
            flush=True,
        )
    print(f"corrected against clean: {100 * (found['corrected'] - found['clean']):+.1f} points")


if __name__ == "__main__":
    main()
