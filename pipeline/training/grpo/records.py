"""What a GRPO run writes down: its figures step by step, and the completions of chosen rollouts."""

from collections import Counter
from pathlib import Path

from pipeline.core.files import write_json_lines
from pipeline.training.grpo.answers import Answers
from pipeline.training.packed.packing import Row
from pipeline.training.records import (
    METRICS,
    append_record,
    finite_or_null,
    forget_later_steps,
    read_records,
)

ROLLOUTS = "rollouts"


class RunRecords:
    """Writes into `folder`. Opened at a step it forgets what later steps of an interrupted run had written."""

    def __init__(self, folder: Path, first_step: int, rollouts_every: int, writes: bool = True):
        """Without `writes`, as in all processes but the first, it reads alone."""
        self._folder = folder
        self._every = rollouts_every
        self._next_rollout = first_step
        if not writes:
            return
        (folder / ROLLOUTS).mkdir(parents=True, exist_ok=True)
        for file in (folder / ROLLOUTS).glob("step-*.jsonl"):
            if int(file.stem.removeprefix("step-")) > first_step:
                file.unlink()
        forget_later_steps(folder / METRICS, first_step)

    def totals(self, *names: str) -> dict[str, int]:
        """Sums of integer metrics over the steps written so far."""
        records = read_records(self._folder / METRICS)
        return {name: sum(int(record[name]) for record in records) for name in names}

    def verdicts(self) -> dict[str, dict[str, int]]:
        """How often each reward has given each verdict over the steps written so far."""
        totals: dict[str, Counter] = {}
        for record in read_records(self._folder / METRICS):
            for name, counts in record.get("verdicts", {}).items():
                totals.setdefault(name, Counter()).update(counts)
        return {name: dict(counts) for name, counts in totals.items()}

    def last(self) -> dict:
        """The last step's metrics; empty before the first."""
        return next(reversed(read_records(self._folder / METRICS)), {})

    def step(self, record: dict) -> None:
        """Append one step's metrics; a number that is not finite becomes null."""
        append_record(self._folder / METRICS, record)

    def rollout(self, step: int, answers: Answers, rewards, rows: list[Row], names: list[str]) -> None:
        """Write the completions of the rollout made at `step` (0 for the first), if its turn has come.

        With several processes these are the main process's share.
        The file carries the number of the first step trained on it, counted from 1 as in `metrics.jsonl`.
        """
        if step < self._next_rollout:
            return
        self._next_rollout = step + self._every
        path = self._folder / ROLLOUTS / f"step-{step + 1:06d}.jsonl"
        write_json_lines(path, rollout_lines(answers, rewards, rows, names))


def rollout_lines(answers: Answers, rewards, rows: list[Row], names: list[str]) -> list[dict]:
    """One line a completion: what was asked and written, each reward (null: did not apply) by the name that
    `metrics.jsonl` has it under, the reward in all, verdicts, the advantage, and what rewards logged of it."""
    lines = []
    columns = (answers.inputs, answers.completions, rewards.tolist(), answers.totals, rows)
    for place, (question, completion, scores, total, row) in enumerate(zip(*columns, strict=True)):
        verdicts = {name: values[place] for name, values in answers.verdicts.items()}
        line = {
            "id": question.get("id"),
            "prompt": question["prompt"],
            "answer": question.get("answer"),
            "completion": completion.text,
            "rewards": dict(zip(names, scores, strict=True)),
            "reward": total,
            "verdicts": {name: str(verdict) for name, verdict in verdicts.items() if verdict is not None},
            "advantage": row.advantage,
            "tokens": len(completion.token_ids),
            "finish_reason": completion.finish_reason,
            **({"logged": answers.logged[place]} if answers.logged[place] else {}),
        }
        lines.append(finite_or_null(line))
    return lines
