"""TRL's GRPOTrainer with our rollout engines, the recipe's features and exact speed-ups.

TRL owns configuration, reward calling, PEFT, accelerate and the training loop. This subclass replaces how completions
are made (`_prepare_inputs`), and how a step's batch is put through the model (`training_step`): the batch becomes
micro-batches of real tokens, each with log-probabilities from a packed forward pass, and the losses of
`pipeline.training.grpo.loss` add up to that of the whole batch. `TAKEN_FROM_TRL` lists what is used of TRL's insides.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOTrainer

from pipeline.config.grpo import GRPOSettings
from pipeline.core.watchdog import beat, phase
from pipeline.engines import Engine
from pipeline.training.flops import ModelFlops
from pipeline.training.fp8 import weights_in_fp8
from pipeline.training.grpo.loss import BatchSize, LossInputs, policy_loss
from pipeline.training.grpo.records import DescribesBatches, StepFigures
from pipeline.training.grpo.reference import Reference, RefreshReference, remember_old_logprobs
from pipeline.training.grpo.rollouts import Rollouts
from pipeline.training.grpo.routing import RolloutRouting
from pipeline.training.guarded import GuardedTrainer
from pipeline.training.multi_token import FollowsPolicy
from pipeline.training.own_loss import find_loss
from pipeline.training.packed.attention import attach_packed_forward
from pipeline.training.packed.losses import can_pack, without_adapters
from pipeline.training.packed.packing import Row, pack, plan_microbatches, shortest
from pipeline.training.packed.padding import pad, padded
from pipeline.training.question_sampler import OnlineQuestions, QuestionSampler
from pipeline.training.schedule import FallsByBudget
from pipeline.training.sharding import aligned, sharded_reference
from pipeline.training.teacher import Teacher, Teaching
from rewards.columns import with_every_column
from rewards.reward_set import RunReward

TAKEN_FROM_TRL = {
    "_prepare_inputs": "overridden: the rows of a micro-step, from our engines",
    "_get_train_sampler": "overridden: questions by step number alone",
    "_buffered_inputs": "the rollout that micro-steps take their slices of",
    "_step": "micro-steps made so far",
    "_tokenizer": "its padding token",
    "_get_per_token_logps_and_entropies": "the padded forward pass, where packing is off",
    "_calculate_rewards": "calls the reward functions, sync and async",
    "_pending_metrics": "what reward functions have logged",
    "_pending_extra_logs": "likewise, a value a completion",
    "_save_checkpoint": "transformers': writes a checkpoint",
    "_load_optimizer_and_scheduler": "transformers', overridden: the reference is loaded beside them",
}
"""Members of TRL's GRPOTrainer that are no public interface, and what each is used for. A test looks for them all."""


class LadderGRPOTrainer(FallsByBudget, FollowsPolicy, DescribesBatches, GuardedTrainer, GRPOTrainer):
    """GRPO on one of our engines. Takes GRPOTrainer's arguments and the engine, the settings and a rollout writer.

    `args` must agree with `settings`; `pipeline.training.grpo.run.train_grpo` makes both.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        settings: GRPOSettings,
        train_dataset: Iterable[Mapping],
        reward_funcs: Iterable[Callable],
        on_rollout=None,
        on_step=None,
        teacher: Teaching | None = None,
        **kwargs,
    ):
        questions = with_every_column(train_dataset)
        prompts = Dataset.from_dict({"prompt": [question["prompt"] for question in questions]})
        args, beta = kwargs["args"], kwargs["args"].beta
        args.beta = 0.0 if args.fsdp_plugin_args else beta  # TRL's reference would not be in shards by layers
        super().__init__(
            keep_checkpoints=settings.keep_checkpoints,
            balance=settings.balance,
            train_dataset=prompts,
            reward_funcs=[RunReward.of(reward) for reward in reward_funcs],
            **kwargs,
        )
        for reward in self.reward_funcs:
            reward.keeps_failure = self.accelerator.num_processes > 1
        self.train_dataset = questions
        """Rows as Python holds them, all with the same columns: TRL asks for an Arrow table, in which every column
        has one type, so that values of several sources would be refused or changed."""
        args.beta = self.beta = beta
        if self.in_shards and beta != 0 and not is_peft_model(self.model):
            self.ref_model = sharded_reference(self)
        self.engine = engine
        self.settings = settings
        self.stops_every = settings.rollout_steps
        self._on_step = on_step
        self.teacher = Teacher(self, teacher) if teacher else None
        models = [without_adapters(self, self.model), *([self.teacher.model] if self.teacher else [])]
        self.packs = settings.speedups.packing and all(map(can_pack, models))
        self.shares_prompts = self.packs and settings.speedups.share_prompts
        """Whether the forward pass computes a prompt once for all rows of its group."""
        self._synced_step: int | None = None
        self._term = find_loss(settings.loss) if settings.loss else None
        self.rollouts = Rollouts(self, engine, on_rollout)
        self.questions = OnlineQuestions.needed(settings, len(questions), self.args.seed)
        self.figures = StepFigures(self, ModelFlops(without_adapters(self, self.model)))
        self.add_callback(self.figures)
        if self.packs:
            for model in filter(None, (self.model, self.ref_model, self.teacher and self.teacher.model)):
                attach_packed_forward(without_adapters(self, model), self.temperature)
        self.routing = RolloutRouting(self)
        self.reference = Reference(self)
        if self.beta != 0 and settings.reference_refresh_steps:
            self.add_callback(RefreshReference(self.reference, settings.reference_refresh_steps))

    # ---- Rollouts -----------------------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset=None):
        """Questions by step number alone, so that a resumed run goes on with the questions it would have had."""
        return QuestionSampler(
            size=len(self.train_dataset if dataset is None else dataset),
            questions=self.args.generation_batch_size // self.num_generations,
            group_size=self.num_generations,
            repeats=self.args.steps_per_generation * self.num_iterations,
            rollouts=-(-self.args.max_steps * self.args.gradient_accumulation_steps // self.args.steps_per_generation),
            seed=self.args.seed,
        )

    def _prepare_inputs(self, generation_batch):
        """The rows of this micro-step: a new rollout where one is due, else the next slice of the last one."""
        if self._step % (self.args.steps_per_generation * self.num_iterations) == 0 or self._buffered_inputs is None:
            self.max_completion_length = self.settings.completion_limit(self.state.global_step)
            self.sync()
            asked = self.questions.ask() if self.questions else []
            rows = self.rollouts.make(self._groups_of(asked) if asked else generation_batch)
            if self.questions:
                self.questions.note(asked, self.rollouts.flat)
            self._buffered_inputs = self._split(rows)
            (written,) = self.totals([self.rollouts.written_tokens])
            self.figures.record |= {"rollout_tokens": int(written), "verdicts": self.rollouts.verdicts()}
        self._start_next_rollout()
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _start_next_rollout(self) -> None:
        """With `steps_ahead`: set the engine to the next rollout where its time has come, before this step's update."""
        due = self.state.global_step + self.settings.steps_ahead
        if not self.settings.steps_ahead or due % self.args.steps_per_generation or due >= self.args.max_steps:
            return
        self.sync()
        asked = self._get_train_sampler().asked(due // self.args.steps_per_generation)
        self.rollouts.start(due, self._groups_of(asked))

    def _groups_of(self, asked: list[int]) -> list[dict]:
        """This process's share of the questions with these row numbers, each `num_generations` times."""
        share = len(asked) // self.accelerator.num_processes
        first = self.accelerator.process_index * share
        questions = [self.train_dataset[row] for row in asked[first : first + share]]
        return [question for question in questions for _ in range(self.num_generations)]

    def _split(self, rows: list[Row]) -> list[list[Row]]:
        """The rollout in random slices, one a micro-step. Slices after the first optimizer step are off-policy."""
        parts = self.args.steps_per_generation
        if not self.settings.speedups.reuse_forward:
            remember_old_logprobs(self, rows, rows)
        if parts == 1:
            return [rows]
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.rollouts.seed)).tolist()
        size = len(rows) // parts
        slices = [[rows[i] for i in order[p * size : (p + 1) * size]] for p in range(parts)]
        later = [row for part in slices[self.args.gradient_accumulation_steps :] for row in part]
        remember_old_logprobs(self, [row for row in later if not self._contributes_nothing(row)], rows)
        return slices

    def sync(self) -> None:
        """Give the engine the policy's weights. After a resume nothing has been synced, so the first rollout syncs."""
        self.rollouts.settle()
        if self._synced_step != self.state.global_step:
            started = time.perf_counter()
            with phase("weight sync"), self.plain_policy(self.engine) as policy, self._as_sampled(policy):
                self.engine.sync_weights(policy)
            self._synced_step = self.state.global_step
            self.figures.seconds["sync"] += time.perf_counter() - started

    def _as_sampled(self, policy) -> contextlib.AbstractContextManager:
        return weights_in_fp8(policy) if self.settings.fp8_rollouts else contextlib.nullcontext()

    def totals(self, values) -> list[float]:
        """Sums over processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        local = torch.tensor(list(values), device=self.accelerator.device, dtype=torch.float64)
        return self.accelerator.reduce(local, reduction="sum").tolist()

    # ---- Updates ------------------------------------------------------------------------------------------------

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Forward and backward over one batch; returns its loss. Gradients meet across processes once, at the end."""
        model.train()
        self.figures.begin()
        rows = self._prepare_inputs(inputs)
        started = time.perf_counter()
        trained = [row for row in rows if not self._contributes_nothing(row)]
        batches, size = self._plan(trained, rows), self._size(rows)
        total = torch.zeros((), device=self.accelerator.device)
        for i, (batch, weight) in enumerate(batches):
            self.experts.routers.counting = weight != 0
            with contextlib.nullcontext() if i == len(batches) - 1 else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, batch, num_items_in_batch=size) * weight
                self.accelerator.backward(loss)
            total += loss.detach()
            beat()
        self.figures.update(trained, rows, batches)
        self.figures.seconds["update"] += time.perf_counter() - started
        self._step += 1
        self.saw_batch(total, rows)
        return total

    def _contributes_nothing(self, row: Row) -> bool:
        """Whether the row's loss and gradient are zero whatever the policy: its share of the normaliser stays."""
        if not self.settings.speedups.skip_zero_advantage:
            return False
        return row.masked or (row.advantage == 0 and self.beta == 0 and self.teacher is None)

    def _plan(self, trained: list[Row], rows: list[Row]) -> list[tuple[list[Row], float]]:
        """Micro-batches, each with the factor of its loss: 1.

        Where nothing is left to train the shortest row runs with factor 0: the optimizer then sees gradients of
        zero, as it would have, and other processes find this one in their reduction of gradients. Of a model in
        shards every process makes as many passes as the one with the most.
        """
        batches = self.microbatches(trained)
        filler = ([shortest(rows)], 0.0)
        counted = [(batch, 1.0) for batch in batches] or [filler]
        return aligned(counted, filler, self.accelerator) if self.in_shards else counted

    def microbatches(self, rows: list[Row]) -> list[list[Row]]:
        tokens = self.settings.microbatch_tokens(self.accelerator.device.type)
        return plan_microbatches(rows, tokens, self.shares_prompts)

    def _size(self, rows: list[Row]) -> BatchSize:
        """What the loss of `rows` is averaged over: they are one of the micro-steps of an optimizer step."""
        micro_steps, tokens = self.current_gradient_accumulation_steps, sum(row.loss_tokens for row in rows)
        share = micro_steps / self.args.steps_per_generation / self.accelerator.num_processes
        return BatchSize(
            rows=len(rows) * micro_steps,
            tokens=tokens * micro_steps,
            shared_tokens=max(1.0, self.rollouts.loss_tokens) * share,
            longest=self.max_completion_length,
        )

    def compute_loss(self, model, inputs: list[Row], return_outputs=False, num_items_in_batch: BatchSize | None = None):
        """The loss of `inputs` as one micro-batch of a batch of size `num_items_in_batch`."""
        tensors = self._loss_inputs(model, inputs)
        loss, figures = policy_loss(tensors, self.settings, num_items_in_batch, self._term)
        loss = loss + self.module_loss(figures, num_items_in_batch.shared_tokens)
        self.figures.saw_loss(tensors, figures, sum(row.loss_tokens for row in inputs))
        return loss

    def _loss_inputs(self, model, rows: list[Row]) -> LossInputs:
        reference = self.reference.logprobs(rows) if self.beta != 0 else None  # before weights are saved for backward
        teacher = self.teacher.logprobs(rows) if self.teacher else None
        logprobs, entropies = self.logprobs_and_entropies(model, rows)
        device = logprobs.device
        on_policy = rows[0].old_logprobs is None
        corrected = self.settings.sampler_correction is not None
        return LossInputs(
            logprobs=logprobs,
            advantages=torch.tensor([row.advantage for row in rows], device=device),
            mask=pad([[0 if row.masked else 1] * len(row.completion_ids) for row in rows], 0, device),
            old=None if on_policy else pad_sequence([row.old_logprobs for row in rows], batch_first=True).to(device),
            sampled=pad([row.sampler_logprobs for row in rows], 0.0, device) if corrected else None,
            reference=reference,
            entropies=entropies,
            teacher=teacher,
            teacher_weight=self.teacher.weight if self.teacher else 1.0,
        )

    def logprobs_and_entropies(
        self, model, rows: list[Row], entropy: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probability of each completion token and entropy at its position, both (rows, longest completion)."""
        device = self.accelerator.device
        if self.packs:
            batch = pack(rows, self.shares_prompts, device)
            self.routing.begins(rows[0].old_logprobs is None)
            self.figures.positions += torch.tensor([batch.tokens, len(batch.to_slots)])
            with self.accelerator.autocast():
                logprobs, entropies = self.forward_packed(model, batch, entropy)
            return batch.unpack(logprobs), batch.unpack(entropies) if entropy else None
        prompts, prompt_mask, completions, mask = padded(rows, self._tokenizer.pad_token_id, device)
        real, computed = int(prompt_mask.sum() + mask.sum()), prompts.numel() + completions.numel()
        self.figures.positions += torch.tensor([real, computed])
        logprobs, entropies, _ = super()._get_per_token_logps_and_entropies(
            model,
            torch.cat([prompts, completions], dim=1),
            torch.cat([prompt_mask, mask], dim=1),
            completions.shape[1],
            compute_entropy=entropy,
        )
        return logprobs, entropies

    # ---- Records ------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        record = {"step": self.state.global_step, **logs, **self.rollouts.record, **self.figures.take()}
        if self._on_step:
            self._on_step(record)

    # ---- Checkpoints --------------------------------------------------------------------------------------------

    def save_step(self) -> None:
        """A checkpoint of the last whole step, unless there is one: what a rollout that failed leaves behind.

        Rewards are asked before anything of a step has changed the model, so between steps is where the run stands.
        """
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.state.global_step > 0 and not folder.exists():
            self._save_checkpoint(self.model, None)

    def save_beside(self, folder: Path) -> None:
        self.reference.save(folder)
        if self.questions and self.args.should_save:
            self.questions.save(folder)

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.reference.load(Path(checkpoint))
            if self.questions:
                self.questions.load(Path(checkpoint))

    def create_model_card(self, *args, **kwargs) -> None:
        """The manifest of the stage says where a checkpoint comes from."""
