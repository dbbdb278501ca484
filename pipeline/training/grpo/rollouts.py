"""Rollouts for the GRPO trainer: questions → completions → rewards → advantages, as rows to train on."""

import time
from collections import Counter

import torch
from accelerate.utils import gather_object

from pipeline.core.tokens import prompts_ids
from pipeline.core.watchdog import phase
from pipeline.engines import Completion, Engine, OnGroup, Sampling
from pipeline.engines.ahead import WritingAhead
from pipeline.training.grpo.advantages import Advantages, group_advantages, most_varied
from pipeline.training.grpo.answers import Answers, Group, Written, as_answers, logged_by, raise_failures
from pipeline.training.packed.packing import Row


class Rollouts:
    """Makes a trainer's rollouts on an engine, and says what they were like (`record`).

    With `steps_ahead` the next rollout is written in a thread while the trainer updates (`WritingAhead`): `start`
    begins it, `make` takes it, whoever else wants the engine calls `settle` first, and `close` gives the engine back.
    """

    def __init__(self, trainer, engine: Engine, on_rollout=None):
        self._trainer = trainer
        self._engine = engine
        self._on_rollout = on_rollout
        self._size = trainer.num_generations
        self._extra_rounds = trainer.settings.dynamic_sampling
        self._ahead = WritingAhead(trainer.accelerator.device) if trainer.settings.steps_ahead else None
        self._made_at = 0
        self._made_by: dict[str, int] = {}
        """Of each of the engine's weights that has written for a rollout, after how many steps it was the policy."""
        self.written_tokens = 0
        self.written_seconds = 0.0
        """Completion tokens of the last rollout, extra rounds included, and what the engine took for them."""
        self._counted = self._verdicts_so_far()
        self.loss_tokens = 0.0
        """Completion tokens that count in the loss, over all processes."""
        self.record: dict = {}
        self.flat: list[bool] = []
        """Of each question that the last rollout was given, over all processes, whether its rewards were all equal."""
        self.made: tuple = ()
        """The last rollout, as `records.rollout_lines` takes it."""

    def seed_of(self, step: int) -> int:
        """Follows from the run's seed and the step alone, so that a resumed run draws what it would have drawn."""
        trainer = self._trainer
        return (trainer.args.seed * 1_000_003 + step) * 4_099 + trainer.accelerator.process_index

    @property
    def seed(self) -> int:
        return self.seed_of(self._trainer.state.global_step)

    def verdicts(self) -> dict[str, dict[str, int]]:
        """How often each reward has given each verdict since the last call, over all processes; none for none."""
        before, self._counted = self._counted, self._verdicts_so_far()
        here = [
            (name, str(verdict), count - before[name][verdict])
            for name, counts in self._counted.items()
            for verdict, count in counts.items()
        ]
        found: dict[str, Counter] = {}
        for name, verdict, count in gather_object(here):
            found.setdefault(name, Counter())[verdict] += count
        return {name: dict(counts) for name, counts in found.items()}

    def _verdicts_so_far(self) -> dict[str, Counter]:
        return {reward.__name__: Counter(reward.counted) for reward in self._trainer.reward_funcs}

    def start(self, step: int, inputs: list[dict]) -> None:
        """Begin to write the rollout due at `step`, with the weights that the engine has now."""
        self.settle()
        made = self._trainer.state.global_step
        self._ahead.start(step, self._write, inputs, self.seed_of(step), step, made)

    def settle(self) -> None:
        """Wait until the engine is free."""
        if self._ahead:
            self._trainer.figures.seconds["rollout"] += self._ahead.settle()

    def close(self) -> None:
        """Nothing is written any more; to be called however training ends."""
        if self._ahead:
            self._ahead.close()

    def make(self, inputs: list[dict]) -> list[Row]:
        """One row a completion. The engine must have the policy's weights, unless the rollout was started ahead."""
        self.written_tokens, self.written_seconds = 0, 0.0
        written = self._take(inputs)
        self._made_at = self._oldest(written)
        answers = self._score(inputs, written)
        result = self._compare(answers.rewards)
        self.flat = result.zero_spread.tolist()
        sampled = None
        asked = answers.inputs[:: self._size]
        if self._trainer.settings.sampled_prompts:
            sampled = answers.rewards, result
            answers = self._most_varied(answers, result)
            result = self._compare(answers.rewards)
        if self._extra_rounds:
            result = self._replace_flat_groups(answers, result, asked)
        rows = self._rows(answers, result)
        answers.totals = result.rewards[self._mine(rows)].tolist()
        trainer = self._trainer
        (self.loss_tokens,) = trainer.totals([sum(row.loss_tokens for row in rows)])
        self._describe(rows, *(sampled or (answers.rewards, result)), result)
        self.made = (answers, answers.rewards[self._mine(rows)], rows, trainer.reward_func_names)
        if self._on_rollout:
            self._on_rollout(trainer.state.global_step, *self.made)
        return rows

    def _take(self, inputs: list[dict]) -> Written:
        """The rollout due now: the one that was started ahead, or written here and now."""
        step = self._trainer.state.global_step
        self.settle()
        written = self._ahead.take(step) if self._ahead else None
        if written is None:
            return self._write_now(inputs, self.seed)
        if written.prompts != [x["prompt"] for x in inputs]:
            raise RuntimeError(f"the rollout written ahead for step {step} asked other questions than are due")
        return written

    def _oldest(self, written: Written) -> int:
        """Steps that the oldest policy had made which wrote any of it.

        Raises RuntimeError where it is older than `steps_ahead` lets it be.
        """
        made = min([written.step, *(step for c in written.completions for step, _, _ in c.spans or ())])
        now, most = self._trainer.state.global_step, self._trainer.settings.steps_ahead
        if now - made > most:
            raise RuntimeError(
                f"the rollout due at step {now} has tokens of the policy after {made} steps, and steps_ahead is {most}"
            )
        return made

    def _write_now(self, inputs: list[dict], seed: int) -> Written:
        step, started = self._trainer.state.global_step, time.perf_counter()
        with phase("generation"):
            written = self._write(inputs, seed, step, step)
        self._trainer.figures.seconds["rollout"] += time.perf_counter() - started
        return written

    def _write(self, inputs: list[dict], seed: int, step: int, made: int) -> Written:
        """Completions of `inputs` for the rollout due at `step`, by the policy after `made` steps."""
        trainer, started = self._trainer, time.perf_counter()
        prompts = [x["prompt"] for x in inputs]
        prompt_ids = prompts_ids(trainer.processing_class, prompts[:: self._size])
        limit = trainer.settings.completion_limit(step)
        sampling = Sampling(max_tokens=limit, temperature=trainer.temperature, seed=seed % 2**31)
        on_group = self._score_ahead(inputs) if trainer.settings.speedups.score_while_generating else None
        if self._ahead:
            on_group = self._ahead.until_closed(on_group)
        asked = {"tell_experts": True} if trainer.routing.told else {}
        groups = self._engine.generate(prompt_ids, self._size, sampling, on_group=on_group, **asked)
        completions = [completion for group in groups for completion in group]
        for completion in completions:
            completion.spans = [
                (self._made_by.setdefault(version, made), first, end) for version, first, end in completion.spans or ()
            ]
        return Written(prompts, prompt_ids, completions, made, time.perf_counter() - started)

    def _score(self, inputs: list[dict], written: Written) -> Answers:
        trainer, started = self._trainer, time.perf_counter()
        prompts, prompt_ids, completions = written.prompts, written.prompt_ids, written.completions
        tokens = sum(len(c.token_ids) for c in completions)
        trainer.state.num_input_tokens_seen += int(
            sum(trainer.totals([tokens, self._size * sum(map(len, prompt_ids))]))
        )
        self.written_tokens += tokens
        self.written_seconds += written.seconds
        texts = as_answers(prompts, completions)
        with phase("scoring"):
            rewards = trainer._calculate_rewards(inputs, prompts, texts, [c.token_ids for c in completions])
            raise_failures(trainer.reward_funcs)
        trainer.figures.seconds["scoring"] += time.perf_counter() - started
        verdicts = {reward.__name__: list(reward.verdicts) for reward in trainer.reward_funcs if reward.verdicts}
        logged = logged_by(trainer.reward_funcs, len(completions))
        return Answers(inputs, prompt_ids, completions, rewards, verdicts, logged)

    def _score_ahead(self, inputs: list[dict]) -> OnGroup | None:
        """Hands each finished group to the rewards that can start on it (those with a `prefetch`), with the columns
        that TRL will give them; None where there is no such reward."""
        trainer = self._trainer
        able = [reward.prefetch for reward in trainer.reward_funcs if reward.prefetches]
        columns = [name for name in inputs[0] if name not in ("prompt", "completion")]

        def ahead(place: int, group: list[Completion]) -> None:
            rows = inputs[place * self._size : (place + 1) * self._size]
            prompts = [row["prompt"] for row in rows]
            for prefetch in able:
                prefetch(
                    prompts=prompts,
                    completions=as_answers(prompts, group),
                    completion_ids=[c.token_ids for c in group],
                    trainer_state=trainer.state,
                    **{name: [row[name] for row in rows] for name in columns},
                )

        return ahead if able else None

    def _compare(self, rewards: torch.Tensor) -> Advantages:
        trainer = self._trainer
        return group_advantages(rewards, trainer.reward_weights.to(rewards.device), self._size, trainer.scale_rewards)

    def _most_varied(self, answers: Answers, result: Advantages) -> Answers:
        """Of more groups than are trained those whose rewards vary most, each process an equal share."""
        accelerator, size = self._trainer.accelerator, self._size
        chosen = most_varied(result.rewards, size, self._trainer.settings.prompts_per_rollout)
        local, first = len(answers.prompt_ids), accelerator.process_index * len(answers.prompt_ids)
        here = [(place, self._group(answers, place - first)) for place in chosen if first <= place < first + local]
        groups = dict(gather_object(here))
        share = len(chosen) // accelerator.num_processes
        mine = [groups[p] for p in chosen[accelerator.process_index * share : (accelerator.process_index + 1) * share]]
        rows = [place * size + member for place in chosen for member in range(size)]
        return Answers(
            inputs=[row for group in mine for row in group.inputs],
            prompt_ids=[group.prompt_ids for group in mine],
            completions=[completion for group in mine for completion in group.completions],
            rewards=answers.rewards[rows],
            verdicts={name: [v for group in mine for v in group.verdicts[name]] for name in answers.verdicts},
            logged=[said for group in mine for said in group.logged],
        )

    def _replace_flat_groups(self, answers: Answers, result: Advantages, asked_rows: list[dict]) -> Advantages:
        """DAPO's dynamic sampling (arXiv 2503.14476, 3.2), bounded: groups that cannot train give way to groups of
        other questions that can, in at most `dynamic_sampling` further rounds. What is still flat then stays.

        Processes go through the rounds together, each asking its share of the questions; a group goes to whichever
        process has a flat one.
        """
        trainer = self._trainer
        rank, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
        generator = torch.Generator().manual_seed(self.seed - rank)  # the same questions in every process
        unasked = torch.randperm(len(trainer.train_dataset), generator=generator).tolist()
        asked = set(gather_object([str(row["prompt"]) for row in asked_rows]))
        for round_number in range(1, self._extra_rounds + 1):
            flat = result.zero_spread.nonzero().flatten().tolist()
            share = -(-len(flat) // processes)
            fresh = self._unasked(unasked, asked, share * processes)
            share = min(share, len(fresh) // processes)
            if not share:
                break
            mine = fresh[rank * share : (rank + 1) * share]
            extra = self._answer_more([row for row in mine for _ in range(self._size)], self.seed + round_number)
            useful = (~self._compare(extra.rewards).zero_spread).nonzero().flatten().tolist()
            groups = dict(
                gather_object([(n, self._group(extra, n - rank * share)) for n in useful if n // share == rank])
            )
            for place, new in zip(flat, useful, strict=False):
                self._put(answers, place, groups[new], extra.rewards[new * self._size : (new + 1) * self._size])
            result = self._compare(answers.rewards)
        return result

    def _unasked(self, order: list[int], asked: set[str], count: int) -> list[dict]:
        """Up to `count` rows whose prompts are not in `asked`; they are taken off `order`."""
        fresh: list[dict] = []
        while order and len(fresh) < count:
            question = self._trainer.train_dataset[order.pop()]
            if str(question["prompt"]) not in asked:
                fresh.append(question)
        return fresh

    def _answer_more(self, inputs: list[dict], seed: int) -> Answers:
        self._trainer.sync()
        return self._score(inputs, self._write_now(inputs, seed))

    def _group(self, answers: Answers, place: int) -> Group:
        """Group `place` of this process."""
        rows = slice(place * self._size, (place + 1) * self._size)
        verdicts = {name: values[rows] for name, values in answers.verdicts.items()}
        completions, logged = answers.completions[rows], answers.logged[rows]
        return Group(answers.inputs[rows], answers.prompt_ids[place], completions, verdicts, logged)

    def _put(self, answers: Answers, place: int, group: Group, rewards: torch.Tensor) -> None:
        """Replace group `place`, counted over all processes."""
        answers.rewards[place * self._size : (place + 1) * self._size] = rewards
        place -= len(answers.prompt_ids) * self._trainer.accelerator.process_index
        if not 0 <= place < len(answers.prompt_ids):
            return
        rows = slice(place * self._size, (place + 1) * self._size)
        answers.inputs[rows], answers.completions[rows] = group.inputs, group.completions
        answers.logged[rows] = group.logged
        answers.prompt_ids[place] = group.prompt_ids
        for name, verdicts in answers.verdicts.items():
            verdicts[rows] = group.verdicts[name]

    def _rows(self, answers: Answers, result: Advantages) -> list[Row]:
        masks = self._trainer.mask_truncated_completions
        advantages = result.advantages[self._mine(answers.completions)].tolist()
        shared: dict[tuple[int, bytes], int] = {}
        return [
            Row(
                prompt_ids=answers.prompt_ids[i // self._size],
                completion_ids=c.token_ids,
                advantage=advantage,
                sampler_logprobs=c.logprobs,
                truncated=c.finish_reason == "length",
                group=shared.setdefault(self._prefix(i // self._size, answers, c), len(shared)),
                masked=masks and c.finish_reason == "length",
                experts=c.experts,
            )
            for i, (c, advantage) in enumerate(zip(answers.completions, advantages, strict=True))
        ]

    def _prefix(self, question: int, answers: Answers, completion: Completion) -> tuple[int, bytes]:
        """What rows have in common that share a prompt; where experts are replayed its experts too."""
        read = len(answers.prompt_ids[question]) - 1
        return question, completion.experts[:read].numpy().tobytes() if self._trainer.routing.replay else b""

    def _mine(self, local: list) -> slice:
        """This process's part of what has been gathered."""
        first = self._trainer.accelerator.process_index * len(local)
        return slice(first, first + len(local))

    def _describe(self, rows: list[Row], rewards: torch.Tensor, result: Advantages, trained: Advantages) -> None:
        """`rewards` and `result` are those of all that was sampled for the rollout, `rows` and `trained` of what of it
        is trained."""
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
            "zero_spread": sum(self.flat) / len(self.flat),
            "completion_tokens": tokens / count,
            "completion_tokens_max": longest,
            "prompt_tokens": prompt_tokens / count,
            "truncated": truncated / count,
        }
        if self._ahead:
            self.record["rollout_steps_stale"] = trainer.state.global_step - self._made_at
        if self._extra_rounds:
            self.record["zero_spread_after_resampling"] = trained.zero_spread.float().mean().item()
        if trainer.settings.sampled_prompts:
            self.record["zero_spread_trained"] = trained.zero_spread.float().mean().item()
        logged: dict[str, list[float]] = {}
        for name, values in gather_object([(name, list(values)) for name, values in trainer._pending_metrics.items()]):
            logged.setdefault(name, []).extend(values)
        self.record |= {name: sum(values) / len(values) for name, values in logged.items()}
        trainer._pending_metrics.clear()
        trainer._pending_extra_logs.clear()
