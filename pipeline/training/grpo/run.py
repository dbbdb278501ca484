"""GRPO from a checkpoint folder to a checkpoint folder: `train_grpo`, which every RL stage calls.

Writes into its output folder: `checkpoint/` (plain Hugging Face format), `trainer/checkpoint-N/` (to resume from),
`metrics.jsonl` and `rollouts/`.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import GRPOConfig

from pipeline.config.grpo import GRPOSettings
from pipeline.config.parallel import NOT_SHARED, ParallelSettings
from pipeline.core.ranks import default_device, process_count
from pipeline.core.tokens import prompts_ids
from pipeline.core.watchdog import phase
from pipeline.engines import Engine
from pipeline.training.best import BestWeights
from pipeline.training.checkpoints import checkpoint_step, tokens_seen
from pipeline.training.grpo.records import RunRecords
from pipeline.training.grpo.trainer import LadderGRPOTrainer
from pipeline.training.lora import load_policy, peft_config, settle_adapters
from pipeline.training.schedule import EndsByBudget, Spending
from pipeline.training.sharding import shard_arguments
from pipeline.training.teacher import Teaching
from pipeline.training.trainer_io import agreed_checkpoint, save_trained, stored_dtype
from rewards import RewardError
from rewards.builtin.length import SoftOverlong
from rewards.columns import taken_names


@dataclass
class GRPOResult:
    """What a run did, what came before a resume included."""

    steps: int
    """Optimizer steps."""
    tokens_generated: int
    tokens_trained: int
    """Completion tokens that went through forward and backward."""
    tokens_seen: int
    """Prompt and completion tokens of all rollouts."""
    step_s: float
    """Seconds of all steps: sampling, scoring and updates."""
    wall_s: float
    """Seconds since the run was started or resumed."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """The last step's line of `metrics.jsonl`."""
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)
    """How often each reward has given each verdict."""
    kept: dict[str, float] | None = None
    """With `keep_best`: the `step` whose weights are the checkpoint's, and the `score` they had."""


def train_grpo(
    *,
    model_path: str | Path,
    tokenizer,
    dataset: Sequence[dict],
    settings: GRPOSettings,
    engine: Engine,
    reward_functions: Sequence[Callable],
    reward_weights: Sequence[float],
    output_dir: str | Path,
    seed: int,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    device: str | None = None,
    log: Callable[[dict], None] | None = None,
    resume: bool = False,
    eval_hook: Callable[[int, Engine], float | None] | None = None,
    eval_every: int | None = None,
    keep_best: bool = False,
    token_budget: int | None = None,
    completion_budget: int | None = None,
    seconds_budget: float | None = None,
    teacher: Teaching | None = None,
    nonfinite_steps: int = 3,
    on_checkpoint: Callable[[int], None] | None = None,
    parallel: ParallelSettings = NOT_SHARED,
) -> GRPOResult:
    """Train the checkpoint at `model_path` with GRPO and save it to `output_dir/checkpoint`.

    With `settings.lora` adapters are trained, saved to `output_dir/adapter` and merged into the checkpoint.

    Args:
        dataset: rows with a `prompt` (text, or chat messages) and any columns that the reward functions read. A
            column that some rows lack is None for them; its values may be of any type.
        engine: an open engine that writes the completions; it gets the policy's weights before each rollout, and
            is left open, with the weights of the last rollout.
        reward_functions: TRL's signature, `f(prompts, completions, completion_ids, **columns)`, with `trainer_state`
            among the keywords; sync or async. None for a completion: does not apply.
        dtype: arithmetic of the forward and backward pass. Weights and optimizer stay float32: at the paper's learning
            rate a bfloat16 weight would swallow most updates.
        device: what is trained on, `cpu` or `cuda` (default: this machine's).
        log: called with each step's metrics.
        resume: go on from the last whole checkpoint in `output_dir/trainer`, if there is one.
        eval_hook: called with the step (0 before the first) and the engine, which has the policy's weights by then,
            every `eval_every` steps. It may give the policy a score.
        keep_best: save the weights that had the highest score of `eval_hook`, which then sees the last step too,
            instead of the last ones.
        token_budget: stop after the step at which this many tokens, prompts and completions of all rollouts, are
            passed. The learning rate falls by the share of it that is spent.
        completion_budget: likewise, by completion tokens alone.
        seconds_budget: likewise, by the seconds of steps; held-out evaluation and checkpoints do not count.
        teacher: a model whose log-probability of each sampled token, minus the policy's, is added to the advantages.
        nonfinite_steps: end after this many steps in a row whose loss or gradient is not finite; each is skipped.
        on_checkpoint: called in the first process with the step of each checkpoint to resume from, once it is whole.
        parallel: how the processes of the run share the model.

    Raises:
        ValueError: settings, dataset and engine do not fit together.
        RewardError: a reward failed. A checkpoint of the last whole step is left to resume from.
        RunError: every checkpoint to resume from is damaged, or `nonfinite_steps` was reached.
        KeyboardInterrupt: Ctrl-C; a checkpoint of the step that was under way is left, where it was the first one.
    """
    started = time.perf_counter()
    output_dir = Path(output_dir)
    _check(dataset, settings, engine.settings, tokenizer, reward_functions, reward_weights)
    if settings.overlong_share:
        reward_functions, reward_weights = [*reward_functions, Overlong(settings)], [*reward_weights, 1.0]
    arguments = trainer_arguments(settings, reward_weights, output_dir / "trainer", seed, dtype, device, parallel)
    leads = arguments.process_index == 0
    if leads and not resume:
        shutil.rmtree(output_dir / "trainer", ignore_errors=True)
    checkpoint = agreed_checkpoint(output_dir / "trainer")
    first_step = checkpoint_step(checkpoint) if checkpoint else 0
    records = RunRecords(output_dir, first_step, settings.log_rollouts_every, writes=leads)
    totals = records.totals("rollout_tokens", "trained_tokens", "seconds_step")
    written, passed = totals["rollout_tokens"], totals["seconds_step"]
    spending = Spending(token_budget, completion_budget, seconds_budget, written, passed)
    if checkpoint and spending.share(tokens_seen(checkpoint)) >= 1:
        arguments.max_steps = first_step  # the budget was used up before the interruption

    def on_step(record: dict) -> None:
        for name in totals:
            totals[name] += record[name]
        if leads:
            records.step(record)
            if log:
                log(record)

    trainer = LadderGRPOTrainer(
        engine=engine,
        settings=settings,
        on_rollout=records.rollout if leads else None,
        on_step=on_step,
        model=load_policy(model_path, settings.lora, dtype, dropout=False, mtp_weight=settings.mtp_weight),
        reward_funcs=reward_functions,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=peft_config(settings.lora) if settings.lora else None,
        nonfinite_steps=nonfinite_steps,
        parallel=parallel,
        teacher=teacher,
    )
    trainer.on_checkpoint = on_checkpoint
    settle_adapters(trainer.model, settings.lora)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    best = BestWeights(output_dir, first_step) if keep_best and leads else None
    if eval_hook and eval_every:
        trainer.add_callback(_EvalHook(eval_hook, eval_every, trainer, keep_best, best))
    if (token_budget, completion_budget, seconds_budget) != (None, None, None):
        trainer.spending = spending
        trainer.add_callback(EndsByBudget(trainer))
    try:
        with phase("update"):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except RewardError:
        trainer.save_step()
        raise
    finally:
        trainer.rollouts.close()
    kept = best.best if best else None
    _save(trainer, tokenizer, output_dir / "checkpoint", stored_dtype(Path(model_path)), best if kept else None)
    return GRPOResult(
        steps=trainer.state.global_step,
        tokens_generated=totals["rollout_tokens"],
        tokens_trained=totals["trained_tokens"],
        tokens_seen=trainer.state.num_input_tokens_seen,
        step_s=totals["seconds_step"],
        wall_s=time.perf_counter() - started,
        metrics=records.last(),
        verdicts=records.verdicts(),
        kept={"step": kept[0], "score": kept[1]} if kept else None,
    )


def _check(dataset, settings: GRPOSettings, engine, tokenizer, functions, weights) -> None:
    """What would otherwise fail after the models have loaded, or in the middle of the run."""
    if len(functions) != len(weights):
        raise ValueError(f"{len(functions)} reward functions and {len(weights)} reward weights; give one weight each")
    if len(dataset) < settings.prompts_sampled:
        raise ValueError(
            f"the dataset has {len(dataset)} questions and a rollout asks {settings.prompts_sampled} different "
            "ones (sampled_prompts, rollout_prompts, or prompts_per_step); lower that, or give more questions"
        )
    for place, row in enumerate(dataset):
        if "prompt" not in row:
            raise ValueError(f"dataset rows need a 'prompt'; row {row.get('id', place)!r} has {sorted(row)}")
        if taken := taken_names(row):
            raise ValueError(
                f"row {row.get('id', place)!r} has a column {taken[0]!r}, which is what the trainer calls something "
                "else that it gives to rewards; rename the column"
            )
    completion = settings.longest_completion
    room = engine.max_model_len - completion
    lengths = [len(ids) for ids in prompts_ids(tokenizer, [row["prompt"] for row in dataset])]
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    if lengths[longest] > room:
        raise ValueError(
            f"the prompt of row {dataset[longest].get('id', longest)!r} has {lengths[longest]} tokens, and the "
            f"engine's max_model_len={engine.max_model_len} leaves {room} beside completions of {completion} "
            f"(max_completion_tokens and its schedule); set max_model_len to at least {lengths[longest] + completion} "
            "or drop long prompts"
        )


def trainer_arguments(
    settings: GRPOSettings,
    reward_weights: Sequence[float],
    folder: Path,
    seed: int,
    dtype: str,
    device: str | None = None,
    parallel: ParallelSettings = NOT_SHARED,
) -> GRPOConfig:
    """TRL's arguments for `settings`. One optimizer step is one of TRL's micro-steps: ours are cut by tokens inside."""
    cuda = (device or default_device()) == "cuda"
    correction = {}
    if settings.sampler_correction:
        correction = {
            "vllm_importance_sampling_mode": settings.sampler_correction,
            "vllm_importance_sampling_clip_max": settings.sampler_correction_max,
        }
    world = process_count()
    if settings.prompts_per_step % world:
        raise ValueError(
            f"prompts_per_step={settings.prompts_per_step} does not divide by the {world} processes of this run; "
            f"set it to a multiple of {world}"
        )
    if settings.prompts_sampled % world:
        raise ValueError(
            f"sampled_prompts={settings.prompts_sampled} does not divide by the {world} processes of this run; "
            f"set it to a multiple of {world}"
        )
    return GRPOConfig(
        output_dir=str(folder),
        use_cpu=not cuda,
        bf16=dtype == "bfloat16",
        seed=seed,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.completions_per_step // world,
        gradient_accumulation_steps=1,
        steps_per_generation=settings.rollout_steps,
        num_generations=settings.group_size,
        max_completion_length=settings.max_completion_tokens,
        temperature=settings.temperature,
        learning_rate=settings.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(settings.lr_schedule, settings.lr_schedule),
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        beta=settings.beta,
        loss_type=settings.loss_type,
        importance_sampling_level=settings.importance_sampling_level,
        epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        scale_rewards=settings.scale_rewards,
        reward_weights=[float(weight) for weight in reward_weights],
        mask_truncated_completions=settings.mask_truncated,
        use_bias_correction_kl=settings.kl_importance_weighted,
        router_aux_loss_coef=0.0,  # a balance over one micro-batch would make the loss depend on how rows are packed
        ddp_find_unused_parameters=False,
        gradient_checkpointing=settings.gradient_checkpointing,
        vllm_importance_sampling_correction=settings.sampler_correction is not None,
        **correction,
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        dataloader_pin_memory=cuda,
        **shard_arguments(parallel, settings.lora),
    )


def _save(trainer: LadderGRPOTrainer, tokenizer, folder: Path, dtype: str, best: BestWeights | None) -> None:
    """Plain Hugging Face format, adapters merged, in the dtype of the start checkpoint; with the weights of `best`."""
    trainer.accelerator.wait_for_everyone()
    kept = best.load_into if best else None
    save_trained(trainer, tokenizer, folder, folder.with_name("adapter"), dtype, kept)


class Overlong:
    """DAPO's soft overlong punishment for the completion limit of the step at hand, as a reward function."""

    __name__ = "overlong"

    def __init__(self, settings: GRPOSettings):
        self.settings = settings

    def __call__(self, completion_ids, trainer_state, **columns) -> list[float]:
        limit = self.settings.completion_limit(trainer_state.global_step)
        shaped = max(1, round(limit * self.settings.overlong_share))
        return SoftOverlong(limit, shaped)((), (), completion_ids)


class _EvalHook(TrainerCallback):
    """Evaluates every so many steps, and where it `keeps` the best weights after the last one; the first process keeps
    them, in `best`."""

    def __init__(self, hook, every: int, trainer: LadderGRPOTrainer, keeps: bool, best: BestWeights | None):
        self._hook, self._every, self._trainer, self._keeps, self._best = hook, every, trainer, keeps, best

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self._evaluate(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self._every == 0:
            self._evaluate(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self._keeps and state.global_step % self._every:
            self._evaluate(state.global_step)

    def on_save(self, args, state, control, **kwargs):
        if self._best:
            self._best.forget_others(state.global_step)

    def _evaluate(self, step: int) -> None:
        self._trainer.sync()
        with phase("evaluation"):
            score = self._hook(step, self._trainer.engine)
        if not self._keeps:
            return
        with self._trainer.trained_weights() as model:  # of a model in shards in all processes
            if self._best and score is not None:
                self._best.offer(step, score, model)
