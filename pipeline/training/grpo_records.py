"""What a GRPO run writes down: `metrics.jsonl`, one line a step, and the completions of chosen rollouts."""

import json
import math
from pathlib import Path

METRICS = "metrics.jsonl"
ROLLOUTS = "rollouts"


class RunRecords:
    """Writes into `folder`. Opened at a step it forgets what later steps of an interrupted run had written."""

    def __init__(self, folder: Path, first_step: int, rollouts_every: int):
        self._folder = folder
        self._every = rollouts_every
        self._next_rollout = first_step
        (folder / ROLLOUTS).mkdir(parents=True, exist_ok=True)
        for file in (folder / ROLLOUTS).glob("step-*.jsonl"):
            if int(file.stem.removeprefix("step-")) > first_step:
                file.unlink()
        path = folder / METRICS
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= first_step]
        path.write_text("".join(line + "\n" for line in kept))

    def totals(self, *names: str) -> dict[str, int]:
        """Sums of integer metrics over the steps written so far."""
        records = [json.loads(line) for line in _lines(self._folder / METRICS)]
        return {name: sum(int(record[name]) for record in records) for name in names}

    def step(self, record: dict) -> None:
        """Append one step's metrics; a number that is not finite becomes null."""
        with (self._folder / METRICS).open("a") as file:
            file.write(json.dumps(_finite(record), ensure_ascii=False) + "\n")

    def rollout(self, step: int, inputs: list[dict], completions, rewards, rows, names: list[str]) -> None:
        """Write the completions of the rollout made at `step` (0 for the first), if its turn has come.

        With several processes these are the main process's share.
        The file carries the number of the first step trained on it, counted from 1 as in `metrics.jsonl`.
        """
        if step < self._next_rollout:
            return
        self._next_rollout = step + self._every
        with (self._folder / ROLLOUTS / f"step-{step + 1:06d}.jsonl").open("w") as file:
            for question, completion, scores, row in zip(inputs, completions, rewards.tolist(), rows, strict=True):
                line = {
                    "id": question.get("id"),
                    "prompt": question["prompt"],
                    "answer": question.get("answer"),
                    "completion": completion.text,
                    "rewards": dict(zip(names, scores, strict=True)),
                    "advantage": row.advantage,
                    "tokens": len(completion.token_ids),
                    "finish_reason": completion.finish_reason,
                }
                file.write(json.dumps(_finite(line), ensure_ascii=False) + "\n")


def _lines(path: Path) -> list[str]:
    """Whole lines; a line cut off by a crash is dropped."""
    if not path.exists():
        return []
    text = path.read_text()
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
