"""TRL's GRPOTrainer with our rollout engines, the recipe's features and exact speed-ups.

TRL owns the loss definitions (`_compute_loss`), reward calling, PEFT, accelerate and the training loop. This subclass
replaces how completions are made (`_prepare_inputs`), and how a step's batch is put through the model
(`training_step`): the batch becomes micro-batches of real tokens, each goes through TRL's loss with log-probabilities
from a packed forward pass, and is weighted so that their sum is the loss of the whole batch.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOTrainer

from pipeline.config.grpo import GRPOSettings
from pipeline.core.watchdog import beat, phase
from pipeline.engines import Engine
from pipeline.training.flops import ModelFlops, attended_pairs, matmul_peak
from pipeline.training.grpo.attention import attach_packed_forward
from pipeline.training.grpo.packing import Row, pack, packed_tokens, plan_microbatches
from pipeline.training.grpo.records import rollout_lines
from pipeline.training.grpo.reference import Reference, RefreshReference
from pipeline.training.grpo.rollouts import Rollouts
from pipeline.training.grpo.sampler import QuestionSampler
from pipeline.training.grpo.schedule import follow_budget
from pipeline.training.guarded import GuardedTrainer
from pipeline.training.lora import plain_model
from rewards.columns import with_every_column
from rewards.reward_set import RunReward

ROW_MEAN_LOSSES = ("grpo", "sapo", "dr_grpo", "luspo")
"""Losses that TRL divides by the number of rows; `bnpo` divides by their tokens, the others by the whole batch's."""
EXTREMES = ("clip_ratio/low_min", "clip_ratio/high_max")
"""TRL's metrics of the loss that are no means and cannot be averaged over micro-batches."""


class LadderGRPOTrainer(GuardedTrainer, GRPOTrainer):
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
        token_budget: int | None = None,
        **kwargs,
    ):
        questions = with_every_column(train_dataset)
        prompts = Dataset.from_dict({"prompt": [question["prompt"] for question in questions]})
        super().__init__(
            keep_checkpoints=settings.keep_checkpoints,
            train_dataset=prompts,
            reward_funcs=[RunReward.of(reward) for reward in reward_funcs],
            **kwargs,
        )
        for reward in self.reward_funcs:
            reward.keeps_failure = self.accelerator.num_processes > 1
        self.train_dataset = questions
        """Rows as Python holds them, all with the same columns: TRL asks for an Arrow table, in which every column
        has one type, so that values of several sources would be refused or changed."""
        self._token_budget = token_budget
        self.engine = engine
        self.settings = settings
        self._on_step = on_step
        self._shares = settings.speedups.packing and settings.speedups.share_prompts
        self._synced_step: int | None = None
        self._forward_result: tuple[torch.Tensor, torch.Tensor] | None = None
        self._gap_max = 0.0
        self.use_vllm = settings.sampler_correction is not None  # TRL's name for "the loss takes the sampler's ratio"
        self.seconds = dict.fromkeys(("rollout", "scoring", "sync", "update"), 0.0)
        self.rollouts = Rollouts(self, engine, on_rollout)
        self.step_record: dict = {}
        self._positions = torch.zeros(2, dtype=torch.long)
        """Tokens that went through attention in this step, and positions computed for them, padding included."""
        self._flops = ModelFlops(self._without_adapters(self.model))
        self._peak = matmul_peak(self.accelerator.device, torch.bfloat16 if self.args.bf16 else torch.float32)
        self._step_started: float | None = None
        self._optimizer_stepped = 0.0
        self.add_callback(_AtOptimizerStep(self))
        if settings.speedups.packing:
            for model in filter(None, (self.model, self.ref_model)):
                attach_packed_forward(self._without_adapters(model), self.temperature)
        self.reference = Reference(self)
        if self.beta != 0 and settings.reference_refresh_steps:
            self.add_callback(RefreshReference(self.reference, settings.reference_refresh_steps))

    def _without_adapters(self, model) -> torch.nn.Module:
        """The model itself, out of what accelerate and peft put around it."""
        plain = self.accelerator.unwrap_model(model)
        return plain.get_base_model() if is_peft_model(plain) else plain

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
            self._buffered_inputs = self._split(self.rollouts.make(generation_batch))
            (written,) = self.totals([self.rollouts.written_tokens])
            self.step_record |= {"rollout_tokens": int(written), "verdicts": self.rollouts.verdicts()}
        self._start_next_rollout()
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _start_next_rollout(self) -> None:
        """With `steps_ahead`: set the engine to the next rollout where its time has come, before this step's update."""
        due = self.state.global_step + self.settings.steps_ahead
        if not self.settings.steps_ahead or due % self.args.steps_per_generation or due >= self.args.max_steps:
            return
        self.sync()
        asked = self._get_train_sampler().asked(due // self.args.steps_per_generation)
        share = len(asked) // self.accelerator.num_processes
        first = self.accelerator.process_index * share
        questions = [self.train_dataset[row] for row in asked[first : first + share]]
        self.rollouts.start(due, [question for question in questions for _ in range(self.num_generations)])

    def _split(self, rows: list[Row]) -> list[list[Row]]:
        """The rollout in random slices, one a micro-step. Slices after the first optimizer step are off-policy."""
        parts = self.args.steps_per_generation
        if not self.settings.speedups.reuse_forward:
            self._remember_old_logprobs(rows)
        if parts == 1:
            return [rows]
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.rollouts.seed)).tolist()
        size = len(rows) // parts
        slices = [[rows[i] for i in order[p * size : (p + 1) * size]] for p in range(parts)]
        later = [row for part in slices[self.args.gradient_accumulation_steps :] for row in part]
        self._remember_old_logprobs([row for row in later if not self._contributes_nothing(row)])
        return slices

    @torch.no_grad()
    def _remember_old_logprobs(self, rows: list[Row]) -> None:
        for batch in plan_microbatches(rows, self.settings.max_tokens_per_microbatch, self._shares):
            logprobs, _ = self.logprobs_and_entropies(self.model, batch, entropy=False)
            for row, values in zip(batch, logprobs, strict=True):
                row.old_logprobs = values[: len(row.completion_ids)].clone()

    def sync(self) -> None:
        """Give the engine the policy's weights. After a resume nothing has been synced, so the first rollout syncs."""
        self.rollouts.settle()
        if self._synced_step != self.state.global_step:
            started = time.perf_counter()
            with phase("weight sync"):
                self.engine.sync_weights(plain_model(self.accelerator.unwrap_model(self.model)))
            self._synced_step = self.state.global_step
            self.seconds["sync"] += time.perf_counter() - started

    def totals(self, values) -> list[float]:
        """Sums over processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        local = torch.tensor(list(values), device=self.accelerator.device, dtype=torch.float64)
        return self.accelerator.reduce(local, reduction="sum").tolist()

    def create_scheduler(self, num_training_steps, optimizer=None):
        made = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if made and self._token_budget:
            warmup_steps = self.args.get_warmup_steps(num_training_steps)
            follow_budget(scheduler, warmup_steps, num_training_steps, self._budget_used)
        return scheduler

    def _budget_used(self) -> float:
        return self.state.num_input_tokens_seen / self._token_budget

    # ---- Updates ------------------------------------------------------------------------------------------------

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Forward and backward over one batch; returns its loss. Gradients meet across processes once, at the end."""
        model.train()
        self._step_started = self._step_started or time.perf_counter()
        rows = self._prepare_inputs(inputs)
        started = time.perf_counter()
        trained = [row for row in rows if not self._contributes_nothing(row)]
        batches = self._plan(trained, rows)
        total = torch.zeros((), device=self.accelerator.device)
        metrics = []
        for i, (batch, weight) in enumerate(batches):
            with contextlib.nullcontext() if i == len(batches) - 1 else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss = self._compute_loss(model, batch) * weight
                self.accelerator.backward(loss)
            total += loss.detach()
            metrics.append(self._take_metrics())
            beat()
        tokens = [sum(row.loss_tokens for row in batch) if weight else 0 for batch, weight in batches]
        self._record_update(metrics, tokens, trained, rows, [batch for batch, _ in batches])
        self.seconds["update"] += time.perf_counter() - started
        self._step += 1
        self.saw_batch(total, rows)
        return total

    def _contributes_nothing(self, row: Row) -> bool:
        """Whether the row's loss and gradient are zero whatever the policy: its share of the normaliser stays."""
        if not self.settings.speedups.skip_zero_advantage:
            return False
        return row.masked or (row.advantage == 0 and self.beta == 0)

    def _plan(self, trained: list[Row], rows: list[Row]) -> list[tuple[list[Row], float]]:
        """Micro-batches and their weights.

        Where nothing is left to train the shortest row runs with weight zero: the optimizer then sees gradients of
        zero, as it would have, and other processes find this one in their reduction of gradients.
        """
        batches = plan_microbatches(trained, self.settings.max_tokens_per_microbatch, self._shares)
        if not batches:
            return [([min(rows, key=lambda row: len(row.prompt_ids) + len(row.completion_ids))], 0.0)]
        return [(batch, self._weight(batch, rows)) for batch in batches]

    def _weight(self, batch: list[Row], rows: list[Row]) -> float:
        """The factor that turns TRL's mean over a micro-batch into its share of the mean over the whole batch."""
        if self.loss_type in ROW_MEAN_LOSSES:
            return len(batch) / len(rows)
        if self.loss_type == "bnpo":
            return sum(row.loss_tokens for row in batch) / max(1, sum(row.loss_tokens for row in rows))
        return 1.0

    def _compute_loss(self, model, rows: list[Row]) -> torch.Tensor:
        """TRL's loss of `rows` as one micro-batch."""
        logprobs, entropies = self.logprobs_and_entropies(model, rows)
        inputs = self._padded(rows, logprobs)
        if self.beta != 0:
            inputs["ref_per_token_logps"] = self.reference.logprobs(rows)
        if "sampling_per_token_logps" in inputs:
            old = inputs.get("old_per_token_logps", logprobs.detach())
            difference = (old - inputs["sampling_per_token_logps"]) * inputs["completion_mask"]
            inputs["importance_sampling_ratio"] = self._sampler_ratio(torch.nan_to_num(difference, nan=0.0))
            self._record_gap(difference, inputs["completion_mask"])
        self._forward_result = (logprobs, entropies)
        with self._local_metrics():
            if self.beta == 0 or self.settings.kl_estimator == "k3":
                return super()._compute_loss(model, inputs)
            return self._policy_loss(model, inputs) + self.beta * self._kl(inputs, logprobs)

    def _policy_loss(self, model, inputs) -> torch.Tensor:
        """TRL's loss without its KL term."""
        beta, self.beta = self.beta, 0.0
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self.beta = beta

    def _kl(self, inputs, logprobs: torch.Tensor) -> torch.Tensor:
        """The k1 or k2 estimate of KL(policy ‖ reference), averaged as TRL averages its k3 under the same loss type."""
        difference = inputs["ref_per_token_logps"] - logprobs
        estimate = -difference if self.settings.kl_estimator == "k1" else difference.square() / 2
        mask = inputs["completion_mask"]
        summed, tokens = (estimate * mask).sum(-1), mask.sum(-1)
        self._metrics["train"]["kl"].append((summed.sum() / tokens.sum().clamp(min=1)).item())
        if self.loss_type in ("grpo", "sapo"):
            return (summed / tokens.clamp(min=1)).mean()
        if self.loss_type == "bnpo":
            return summed.sum() / tokens.sum().clamp(min=1)
        if self.loss_type == "dr_grpo":
            return summed.sum() / (len(summed) * self.max_completion_length)
        parts = self.args.steps_per_generation / self.current_gradient_accumulation_steps
        return summed.sum() / (inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes / parts)

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        """TRL's loss asks for the forward pass here; `_compute_loss` has made it already."""
        return *self._forward_result, None

    def logprobs_and_entropies(
        self, model, rows: list[Row], entropy: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probability of each completion token and entropy at its position, both (rows, longest completion)."""
        device = self.accelerator.device
        if self.settings.speedups.packing:
            batch = pack(rows, self._shares, device)
            self._positions += torch.tensor([batch.tokens, len(batch.to_slots)])
            with self.accelerator.autocast():
                logprobs, entropies = model(packed=batch, entropy=entropy)
            return batch.unpack(logprobs), batch.unpack(entropies) if entropy else None
        padding = self._tokenizer.pad_token_id
        prompts = _pad([row.prompt_ids for row in rows], padding, device, left=True)
        prompt_mask = _pad([[1] * len(row.prompt_ids) for row in rows], 0, device, left=True)
        completions = _pad([row.completion_ids for row in rows], padding, device)
        mask = _pad([[1] * len(row.completion_ids) for row in rows], 0, device)
        self._positions += torch.tensor([int(prompt_mask.sum() + mask.sum()), prompts.numel() + completions.numel()])
        logprobs, entropies, _ = super()._get_per_token_logps_and_entropies(
            model,
            torch.cat([prompts, completions], dim=1),
            torch.cat([prompt_mask, mask], dim=1),
            completions.shape[1],
            compute_entropy=entropy,
        )
        return logprobs, entropies

    def _padded(self, rows: list[Row], logprobs: torch.Tensor) -> dict[str, torch.Tensor]:
        """What TRL's loss reads of `rows`. Prompts are left out: it reads them for the forward pass alone."""
        device = logprobs.device
        mask = _pad([[0 if row.masked else 1] * len(row.completion_ids) for row in rows], 0, device)
        empty = mask.new_zeros((len(rows), 0))
        inputs = {
            "prompt_ids": empty,
            "prompt_mask": empty,
            "completion_ids": mask,
            "completion_mask": mask,
            "advantages": torch.tensor([row.advantage for row in rows], device=device),
            "num_items_in_batch": torch.tensor(self.rollouts.loss_tokens, device=device),
        }
        if self.use_vllm:
            inputs["sampling_per_token_logps"] = _pad([row.sampler_logprobs for row in rows], 0.0, device)
        if rows[0].old_logprobs is not None:
            inputs["old_per_token_logps"] = torch.nn.utils.rnn.pad_sequence(
                [row.old_logprobs for row in rows], batch_first=True
            ).to(device)
        return inputs

    def _sampler_ratio(self, difference: torch.Tensor) -> torch.Tensor:
        """TRL's correction for sampler and trainer disagreeing, from log-probability differences (rows, tokens).

        Truncated importance sampling: https://fengyao.notion.site/off-policy-rl. TRL computes the same in its rollout,
        after a forward pass of its own.
        """
        if self.vllm_importance_sampling_mode.startswith("sequence"):
            difference = difference.sum(dim=-1, keepdim=True)
        ratio = torch.exp(difference)
        limit = self.vllm_importance_sampling_clip_max
        if self.vllm_importance_sampling_mode.endswith("truncate"):
            return ratio.clamp(max=limit)
        return ratio.masked_fill(ratio > limit, 0.0)

    # ---- Records ------------------------------------------------------------------------------------------------

    def _record_gap(self, difference: torch.Tensor, mask: torch.Tensor) -> None:
        gap = difference.detach().abs()
        self._metrics["train"]["sampler_gap"].append((gap.sum() / mask.sum().clamp(min=1)).item())
        self._gap_max = max(self._gap_max, gap.max().item())

    def _take_metrics(self) -> dict[str, float]:
        """TRL's metrics of the micro-batch that just ran."""
        taken = {name: values[-1] for name, values in self._metrics["train"].items() if name not in EXTREMES}
        self._metrics["train"].clear()
        return taken

    @contextlib.contextmanager
    def _local_metrics(self):
        """TRL's loss gathers its metrics over processes, which have different numbers of micro-batches here.

        Inside it sees an accelerator that does not communicate; `_record_update` averages over processes once a step.
        """
        accelerator = self.accelerator
        self.accelerator = _Alone(accelerator)
        try:
            yield
        finally:
            self.accelerator = accelerator

    def _record_update(self, metrics, tokens: list[int], trained, rows, batches) -> None:
        """Metrics of the loss as means over the tokens that trained, over micro-batches and processes."""
        sums = [sum(m[name] * t for m, t in zip(metrics, tokens, strict=True)) for name in metrics[0]]
        *sums, whole = self.totals([*sums, sum(tokens)])
        for name, value in zip(metrics[0], sums, strict=True):
            self.step_record[name] = value / whole if whole else None
        names = ("trained_tokens", "forward_tokens", "trained_rows", "rows")
        scored = sum(len(row.completion_ids) for row in trained)
        forward = sum(packed_tokens(batch, self._shares) for batch in batches)
        counts = (scored, forward, len(trained), len(rows))
        self.step_record |= dict(zip(names, map(int, self.totals(counts)), strict=True))
        pairs = sum(attended_pairs(len(row.prompt_ids), len(row.completion_ids)) for row in trained)
        passes = 4 if self.beta else 3  # forward, twice that backward, and the reference's forward
        self._flop_done = passes * self._flops.forward(forward, scored, pairs)
        (microbatches,) = self.totals([len(batches)])
        gap = self.accelerator.gather(torch.tensor([self._gap_max], device=self.accelerator.device)).max()
        self.step_record |= {"microbatches": int(microbatches), "sampler_gap_max": gap.item()}
        self._gap_max = 0.0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        if "loss" not in logs:
            return
        record = {"step": self.state.global_step, **logs, **self.rollouts.record, **self.step_record}
        record |= self._speeds()
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self.step_record = {}
        self._positions.zero_()
        if self._on_step:
            self._on_step(record)

    def _speeds(self) -> dict[str, float]:
        """Where the step's time went, tokens a second by phase, and what of the update was of use.

        `seconds_rollout` is the time spent waiting for completions: with `steps_ahead` less than the engine took.
        Held-out evaluation and checkpoints come after the step and do not count.
        """
        phases, whole = self.seconds, self._optimizer_stepped - self._step_started
        self._step_started = None
        update = max(phases["update"], 1e-9)
        speeds = {f"seconds_{name}": value for name, value in phases.items()} | {"seconds_step": whole}
        speeds |= {f"share_{name}": value / whole for name, value in phases.items()}
        speeds["rollout_tokens"] = generated = self.step_record.get("rollout_tokens", 0)
        if generated:
            speeds["rollout_tokens_per_second"] = generated / max(self.rollouts.written_seconds, 1e-9)
            speeds["scoring_tokens_per_second"] = generated / max(phases["scoring"], 1e-9)
        speeds["update_tokens_per_second"] = self.step_record["forward_tokens"] / update
        speeds["update_flop_utilisation"] = self._flop_done / update / self._peak
        tokens, positions = self.totals(self._positions.tolist())
        speeds["pad_share"] = 1 - tokens / max(1, positions)
        speeds["dropped_rows"] = self.step_record["rows"] - self.step_record["trained_rows"]
        return speeds

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

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.reference.load(Path(checkpoint))

    # ---- Batches that are not finite ------------------------------------------------------------------------------

    def describe_batch(self, batch: list[Row]) -> list[dict]:
        """The rows' lines as `rollouts/` holds them: question, completion, rewards, advantage."""
        _, _, rows, _ = self.rollouts.made
        lines = {id(row): line for row, line in zip(rows, rollout_lines(*self.rollouts.made), strict=True)}
        return [lines[id(row)] for row in batch]

    def batch_summary(self) -> str:
        rewards = ", ".join(f"{name} {value:g}" for name, value in self.rollouts.record["rewards"].items())
        return f", of a rollout with mean rewards {rewards}"

    def create_model_card(self, *args, **kwargs) -> None:
        """The manifest of the stage says where a checkpoint comes from."""


class _AtOptimizerStep(TrainerCallback):
    """Notes when the step's work is done: held-out evaluation comes before the step's figures are logged."""

    def __init__(self, trainer: LadderGRPOTrainer):
        self._trainer = trainer

    def on_optimizer_step(self, *args, **kwargs):
        self._trainer._optimizer_stepped = time.perf_counter()


class _Alone:
    """An accelerator whose reductions stay in this process."""

    def __init__(self, accelerator):
        self._accelerator = accelerator

    def __getattr__(self, name: str):
        return getattr(self._accelerator, name)

    def gather(self, tensor):
        return tensor

    def reduce(self, tensor, reduction="sum"):
        return tensor


def _pad(rows: list[list], value, device: torch.device, left: bool = False) -> torch.Tensor:
    """(rows, longest) with `value` where a row has ended."""
    width = max(map(len, rows))
    fill = [[value] * (width - len(row)) for row in rows]
    return torch.tensor([f + row if left else row + f for row, f in zip(rows, fill, strict=True)], device=device)
