"""What a GRPO run writes down: figures of each optimizer step (the loss's, where the time went, how well the machine
was used), and the completions of chosen rollouts."""

import time
from collections import Counter
from pathlib import Path

import torch
from transformers import TrainerCallback

from pipeline.core.files import write_json_lines
from pipeline.training.flops import ModelFlops, attended_pairs, matmul_peak
from pipeline.training.grpo.answers import Answers
from pipeline.training.grpo.loss import LossInputs, sampler_difference
from pipeline.training.packed.packing import Row, packed_tokens
from pipeline.training.records import (
    METRICS,
    append_record,
    finite_or_null,
    forget_later_steps,
    read_records,
)

ROLLOUTS = "rollouts"
PHASES = ("rollout", "scoring", "sync", "update")


class StepFigures(TrainerCallback):
    """Collects a step's figures; `take` gives them and starts the next step's.

    Held-out evaluation and checkpoints come after the optimizer's step and do not count: `on_optimizer_step` notes
    when that was.
    """

    def __init__(self, trainer, flops: ModelFlops):
        self._trainer, self._flops = trainer, flops
        arithmetic = torch.bfloat16 if trainer.args.bf16 else torch.float32
        self._peak = matmul_peak(trainer.accelerator.device, arithmetic)
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.record: dict = {}
        self.positions = torch.zeros(2, dtype=torch.long)
        """Tokens that went through attention in this step, and positions computed for them, padding included."""
        self._losses: list[tuple[dict[str, float], int]] = []
        self._gap_max = 0.0
        self._started: float | None = None
        self._optimizer_stepped = 0.0
        self._flop_done = 0.0
        self._drafts = self._drafts_so_far()

    def begin(self) -> None:
        """The step's first micro-step starts now."""
        self._started = self._started or time.perf_counter()

    def on_optimizer_step(self, *args, **kwargs):
        self._optimizer_stepped = time.perf_counter()

    def saw_loss(self, inputs: LossInputs, figures: dict[str, torch.Tensor], tokens: int) -> None:
        """Figures of a micro-batch of `tokens` tokens that count."""
        values = {name: value.item() for name, value in figures.items()}
        if inputs.sampled is not None:
            gap = torch.nan_to_num(sampler_difference(inputs), nan=0.0).detach().abs()
            values["sampler_gap"] = (gap.sum() / inputs.mask.sum().clamp(min=1)).item()
            self._gap_max = max(self._gap_max, gap.max().item())
        self._losses.append((values, tokens))

    def update(self, trained: list[Row], rows: list[Row], batches: list[tuple[list[Row], float]]) -> None:
        """Means over the tokens that trained, over micro-batches and processes, once they have been through."""
        trainer, losses = self._trainer, self._losses
        tokens = [count if weight else 0 for (_, count), (_, weight) in zip(losses, batches, strict=True)]
        names = list(losses[0][0])
        sums = [sum(values[name] * count for (values, _), count in zip(losses, tokens, strict=True)) for name in names]
        *sums, whole = trainer.totals([*sums, sum(tokens)])
        self.record |= {name: value / whole if whole else None for name, value in zip(names, sums, strict=True)}
        self._losses = []
        scored = sum(len(row.completion_ids) for row in trained)
        forward = sum(packed_tokens(batch, trainer.shares_prompts) for batch, _ in batches)
        counts = {
            "trained_tokens": scored,
            "forward_tokens": forward,
            "trained_rows": len(trained),
            "rows": len(rows),
            "microbatches": len(batches),
        }
        self.record |= dict(zip(counts, map(int, trainer.totals(counts.values())), strict=True))
        pairs = sum(attended_pairs(len(row.prompt_ids), len(row.completion_ids)) for row in trained)
        passes = 4 if trainer.beta else 3  # forward, twice that backward, and the reference's forward
        self._flop_done = passes * self._flops.forward(forward, scored, pairs)
        if trainer.teacher:
            self._flop_done += trainer.teacher.flops.forward(forward, scored, pairs)
        accelerator = trainer.accelerator
        gap = accelerator.gather(torch.tensor([self._gap_max], device=accelerator.device)).max()
        self.record["sampler_gap_max"], self._gap_max = gap.item(), 0.0

    def take(self) -> dict:
        """All figures of the step."""
        taken = self.record | self._speeds() | self._acceptance()
        taken |= self._trainer.routing.share(self._trainer.totals)
        self.seconds, self.record = dict.fromkeys(PHASES, 0.0), {}
        self.positions.zero_()
        return taken

    def _drafts_so_far(self) -> tuple[int, int]:
        """Tokens that the engine has drafted, and those of them that were accepted."""
        return self._trainer.engine.stats.drafted, self._trainer.engine.stats.accepted

    def _acceptance(self) -> dict[str, float]:
        """The share of the step's drafted tokens that the policy took, where any were."""
        before, self._drafts = self._drafts, self._drafts_so_far()
        drafted, accepted = self._trainer.totals([now - then for now, then in zip(self._drafts, before, strict=True)])
        return {"draft_acceptance": accepted / drafted} if drafted else {}

    @property
    def step_seconds(self) -> float:
        """From the step's first micro-step to the optimizer's."""
        return self._optimizer_stepped - self._started

    def _speeds(self) -> dict[str, float]:
        """Where the step's time went, tokens a second by phase, and what of the update was of use.

        `seconds_rollout` is the time spent waiting for completions: with `steps_ahead` less than the engine took.
        """
        phases, whole, record = self.seconds, self.step_seconds, self.record
        self._started = None
        update = max(phases["update"], 1e-9)
        speeds = {f"seconds_{name}": value for name, value in phases.items()} | {"seconds_step": whole}
        speeds |= {f"share_{name}": value / whole for name, value in phases.items()}
        speeds["rollout_tokens"] = generated = record.get("rollout_tokens", 0)
        if generated:
            written_seconds = self._trainer.rollouts.written_seconds
            speeds["rollout_tokens_per_second"] = generated / max(written_seconds, 1e-9)
            speeds["scoring_tokens_per_second"] = generated / max(phases["scoring"], 1e-9)
        speeds["update_tokens_per_second"] = record["forward_tokens"] / update
        speeds["update_flop_utilisation"] = self._flop_done / update / self._peak
        tokens, positions = self._trainer.totals(self.positions.tolist())
        speeds["pad_share"] = 1 - tokens / max(1, positions)
        speeds["dropped_rows"] = record["rows"] - record["trained_rows"]
        return speeds


class DescribesBatches:
    """Mixin; list it before `GuardedTrainer`: what that writes of batches that are not finite."""

    def describe_batch(self, batch: list[Row]) -> list[dict]:
        """The rows' lines as `rollouts/` holds them: question, completion, rewards, advantage."""
        _, _, rows, _ = self.rollouts.made
        lines = {id(row): line for row, line in zip(rows, rollout_lines(*self.rollouts.made), strict=True)}
        return [lines[id(row)] for row in batch]

    def batch_summary(self) -> str:
        rewards = ", ".join(f"{name} {value:g}" for name, value in self.rollouts.record["rewards"].items())
        return f", of a rollout with mean rewards {rewards}"


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

    def totals(self, *names: str) -> dict[str, float]:
        """Sums of metrics over the steps written so far."""
        records = read_records(self._folder / METRICS)
        return {name: sum(record[name] for record in records) for name in names}

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
    `metrics.jsonl` has it under, the reward in all, verdicts, the advantage, after how many steps the policy wrote
    which tokens (step, first, end), and what rewards logged of it."""
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
            **({"policy_steps": completion.spans} if completion.spans else {}),
            **({"logged": answers.logged[place]} if answers.logged[place] else {}),
        }
        lines.append(finite_or_null(line))
    return lines
