"""Rollouts for the GRPO trainer: questions → completions → rewards → advantages, as rows to train on."""

import time
from dataclasses import dataclass

import torch

from pipeline.rollouts import Completion, Engine, Sampling
from pipeline.training.grpo_advantages import Advantages, group_advantages
from pipeline.training.grpo_packing import Row


@dataclass
class Answers:
    """Completions of some questions and their rewards, groups in a row."""

    inputs: list[dict]
    """Dataset rows, each question `group_size` times."""
    prompt_ids: list[list[int]]
    """One a question."""
    completions: list[Completion]
    rewards: torch.Tensor
    """(completions of all processes, reward functions)"""


class Rollouts:
    """Makes a trainer's rollouts on an engine, and says what they were like (`record`)."""

    def __init__(self, trainer, engine: Engine, on_rollout=None):
        self._trainer = trainer
        self._engine = engine
        self._on_rollout = on_rollout
        self._size = trainer.num_generations
        self._extra_rounds = trainer.settings.dynamic_sampling
        self.loss_tokens = 0.0
        """Completion tokens that count in the loss, over all processes."""
        self.record: dict = {}
        if self._extra_rounds and trainer.accelerator.num_processes > 1:
            raise ValueError(
                f"dynamic_sampling={self._extra_rounds} works on one process, and this run has "
                f"{trainer.accelerator.num_processes}: processes would replace different numbers of groups and wait "
                "for each other; set dynamic_sampling: 0"
            )

    @property
    def seed(self) -> int:
        """Follows from the run's seed and the step alone, so that a resumed run draws what it would have drawn."""
        trainer = self._trainer
        return (trainer.args.seed * 1_000_003 + trainer.state.global_step) * 4_099 + trainer.accelerator.process_index

    def make(self, inputs: list[dict]) -> list[Row]:
        """One row a completion. The engine must have the policy's weights."""
        answers = self._answer(inputs, self.seed)
        result = self._compare(answers.rewards)
        first_flat = result.zero_spread.float().mean().item()
        if self._extra_rounds:
            result = self._replace_flat_groups(answers, result)
        rows = self._rows(answers, result)
        trainer = self._trainer
        (self.loss_tokens,) = trainer.totals([sum(row.loss_tokens for row in rows)])
        self._describe(rows, answers.rewards, result, first_flat)
        if self._on_rollout:
            mine, names = self._mine(rows), trainer.reward_func_names
            self._on_rollout(
                trainer.state.global_step, answers.inputs, answers.completions, answers.rewards[mine], rows, names
            )
        return rows

    def _answer(self, inputs: list[dict], seed: int) -> Answers:
        trainer = self._trainer
        prompts = [x["prompt"] for x in inputs]
        prompt_ids, *_ = trainer._tokenize_prompts(prompts[:: self._size])
        started = time.perf_counter()
        sampling = Sampling(
            max_tokens=trainer.max_completion_length, temperature=trainer.temperature, seed=seed % 2**31
        )
        groups = self._engine.generate(prompt_ids, self._size, sampling)
        completions = [completion for group in groups for completion in group]
        trainer.state.num_input_tokens_seen += int(
            sum(trainer.totals([sum(len(c.token_ids) for c in completions), self._size * sum(map(len, prompt_ids))]))
        )
        scoring = time.perf_counter()
        trainer.seconds["rollout"] += scoring - started
        texts = [c.text for c in completions]
        if not isinstance(prompts[0], str):
            texts = [[{"role": "assistant", "content": text}] for text in texts]
        rewards = trainer._calculate_rewards(inputs, prompts, texts, [c.token_ids for c in completions])
        trainer.seconds["scoring"] += time.perf_counter() - scoring
        return Answers(inputs, prompt_ids, completions, rewards)

    def _compare(self, rewards: torch.Tensor) -> Advantages:
        trainer = self._trainer
        return group_advantages(rewards, trainer.reward_weights.to(rewards.device), self._size, trainer.scale_rewards)

    def _replace_flat_groups(self, answers: Answers, result: Advantages) -> Advantages:
        """DAPO's dynamic sampling (arXiv 2503.14476, 3.2), bounded: groups that cannot train give way to groups of
        other questions that can, in at most `dynamic_sampling` further rounds. What is still flat then stays."""
        generator = torch.Generator().manual_seed(self.seed)
        dataset = self._trainer.train_dataset
        unasked = torch.randperm(len(dataset), generator=generator).tolist()
        asked = {x["prompt"] if isinstance(x["prompt"], str) else str(x["prompt"]) for x in answers.inputs}
        for round_number in range(1, self._extra_rounds + 1):
            flat = result.zero_spread.nonzero().flatten().tolist()
            fresh = []
            while unasked and len(fresh) < len(flat):
                question = dataset[unasked.pop()]
                if str(question["prompt"]) not in asked:
                    fresh.append(question)
            if not fresh:
                break
            extra = self._answer([q for q in fresh for _ in range(self._size)], self.seed + round_number)
            useful = (~self._compare(extra.rewards).zero_spread).nonzero().flatten().tolist()
            for place, new in zip(flat, useful, strict=False):
                self._put(answers, place, extra, new)
            result = self._compare(answers.rewards)
        return result

    def _put(self, answers: Answers, place: int, extra: Answers, new: int) -> None:
        """Replace group `place` by group `new` of `extra`."""
        there = slice(place * self._size, (place + 1) * self._size)
        here = slice(new * self._size, (new + 1) * self._size)
        answers.inputs[there] = extra.inputs[here]
        answers.completions[there] = extra.completions[here]
        answers.rewards[there] = extra.rewards[here]
        answers.prompt_ids[place] = extra.prompt_ids[new]

    def _rows(self, answers: Answers, result: Advantages) -> list[Row]:
        masks = self._trainer.mask_truncated_completions
        advantages = result.advantages[self._mine(answers.completions)].tolist()
        return [
            Row(
                prompt_ids=answers.prompt_ids[i // self._size],
                completion_ids=c.token_ids,
                advantage=advantage,
                sampler_logprobs=c.logprobs,
                truncated=c.finish_reason == "length",
                group=i // self._size,
                masked=masks and c.finish_reason == "length",
            )
            for i, (c, advantage) in enumerate(zip(answers.completions, advantages, strict=True))
        ]

    def _mine(self, local: list) -> slice:
        """This process's part of what has been gathered."""
        first = self._trainer.accelerator.process_index * len(local)
        return slice(first, first + len(local))

    def _describe(self, rows: list[Row], rewards: torch.Tensor, result: Advantages, first_flat: float) -> None:
        trainer = self._trainer
        lengths = [len(row.completion_ids) for row in rows]
        tokens, prompt_tokens, truncated, count = trainer.totals(
            [sum(lengths), sum(len(row.prompt_ids) for row in rows), sum(row.truncated for row in rows), len(rows)]
        )
        longest = trainer.accelerator.gather(torch.tensor([max(lengths)], device=rewards.device)).max().item()
        scored = result.rewards[~result.rewards.isnan()]
        self.record = {
            "rollout_step": trainer.state.global_step + 1,
            "reward": scored.mean().item(),
            "reward_std": scored.std(unbiased=False).item(),
            "rewards": {name: rewards[:, i].nanmean().item() for i, name in enumerate(trainer.reward_func_names)},
            "unscored": 1 - len(scored) / len(result.rewards),
            "zero_spread": first_flat,
            "completion_tokens": tokens / count,
            "completion_tokens_max": longest,
            "prompt_tokens": prompt_tokens / count,
            "truncated": truncated / count,
        }
        if self._extra_rounds:
            self.record["zero_spread_after_resampling"] = result.zero_spread.float().mean().item()
        for name, values in trainer._pending_metrics.items():
            self.record[name] = sum(values) / len(values)
        trainer._pending_metrics.clear()
        trainer._pending_extra_logs.clear()
