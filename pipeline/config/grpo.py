"""Settings of GRPO. Importing this loads neither torch nor TRL.

The defaults are DeepSeek-R1-Zero's figures: "the paper" is arXiv 2501.12948v2 (and its Nature version, 2025).
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.config.engine import EngineSettings, Temperature
from pipeline.config.experts import BalanceSettings, check_trains_whole
from pipeline.config.grpo_recipes import RECIPES
from pipeline.config.lora import LoRASettings, TakesAdapters
from pipeline.core.own_code import own_code
from pipeline.core.strict import Strict

CPU_MICROBATCH = 4096
"""Tokens of the largest forward pass on a CPU. A pass is bound by arithmetic and caches long before, so that more
tokens only hold more memory."""


class LengthChange(Strict):
    """From optimizer step `from_step` on (the first step is 0), completions may be `tokens` long."""

    from_step: int = Field(gt=0)
    tokens: int = Field(gt=0)


class OnlineDifficulty(Strict):
    """Questions that the policy always or never solves are drawn less while it trains. A question whose last k groups
    each got equal rewards is passed over, when its turn comes, but for a chance of `flat_weight` to the power of k."""

    flat_weight: float = Field(default=0.5, gt=0, le=1)
    """1: every question is asked when its turn comes."""
    least: float = Field(default=0.05, gt=0, le=1)
    """Smallest chance, so that what has become learnable is found out."""


class SpeedUps(Strict):
    """Exact speed-ups: the same loss and gradients as stock TRL on the same batch. Each can be switched off."""

    packing: bool = True
    """Train on packed rows without padding: cost follows real tokens. Off: micro-batches padded to their longest."""
    share_prompts: bool = True
    """Compute a prompt once for all completions of its group (needs `packing`)."""
    skip_zero_advantage: bool = True
    """Leave rows that cannot move the policy out of forward and backward. With KL on (`beta` > 0) a row of zero
    advantage still pulls towards the reference, so then only truncated rows that are masked are left out."""
    reuse_forward: bool = True
    """Take the old log-probabilities of an on-policy step from the loss's own forward pass. Off: a pass of their own,
    as TRL makes it beside vLLM."""
    score_while_generating: bool = True
    """Rewards that can (accuracy, judge) start on a group while others are still being written."""
    sync_adapters: bool = True
    """With LoRA on vLLM: hand over the adapters. Off: merge them and hand over every weight."""


class GRPOSettings(TakesAdapters):
    """Group relative policy optimization (arXiv 2402.03300), on TRL's loss definitions."""

    LATER = frozenset(
        {"balance", "loss", "sampled_prompts", "online_difficulty", "fp8_rollouts", "mtp_weight", "routing_replay"}
    )

    recipe: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"] = "grpo"
    """A published variant: sets the keys of `RECIPES`, but those that are set beside it or more specifically (in a
    profile that extends this one, or by SET). `grpo`: DeepSeek-R1's."""

    prompts_per_step: int = Field(default=32, gt=0)
    """Questions an optimizer step (paper: 32)."""
    group_size: int = Field(default=16, ge=2)
    """Completions a question (paper: 16), so that a step trains on `prompts_per_step` × `group_size`."""
    rollout_prompts: int | None = Field(default=512, gt=0)
    """Questions a rollout; the paper's 8,192 completions are 512 questions, split into 16 steps, one inner epoch.
    None: one step's questions, fully on-policy."""
    max_steps: int = Field(default=10_400, gt=0)
    """Optimizer steps (paper: 10,400)."""

    temperature: Temperature = Field(default=1.0, gt=0)
    """Paper: 1.0, and 0.7 in the last RL stage. Top-p stays 1, as the loss needs the full distribution."""
    max_completion_tokens: int = Field(default=32_768, gt=0)
    """Longest completion at the start (paper: 32,768 before step 8,200)."""
    max_completion_schedule: list[LengthChange] = Field(
        default_factory=lambda: [LengthChange(from_step=8_200, tokens=65_536)]
    )
    """Later limits (paper: 65,536 from step 8,200)."""
    mask_truncated: bool = False
    """Leave completions cut at the limit out of the loss (not in the paper; DAPO, arXiv 2503.14476, 3.4)."""
    dynamic_sampling: int = Field(default=0, ge=0)
    """Extra rounds in which groups whose rewards are all equal are replaced by other questions (DAPO 3.2). 0: off."""
    sampled_prompts: int | None = Field(default=None, gt=0)
    """Questions a rollout samples, more than it trains on: of their groups those are trained whose rewards vary most.
    None: as many as it trains on."""
    online_difficulty: OnlineDifficulty | None = None
    """Draw questions by how their groups came out so far; null: each once in every pass."""
    overlong_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the completion limit, at its end, in which a completion loses up to 1 of its reward, linearly (DAPO's
    soft overlong punishment, 3.4). Follows `max_completion_schedule`. 0: off."""
    steps_ahead: int = Field(default=0, ge=0)
    """The next rollout starts this many optimizer steps before it is due and is written while those steps train, so its
    samples are that many steps staler; the truncated importance ratio makes up for it. 0: written when due."""

    fp8_rollouts: bool = False
    """The engine gets weights rounded to block-wise FP8, and the truncated importance ratio makes up for it; the
    sampler gap says how much there is to make up for (docs/deepseek-v3.md)."""

    learning_rate: float = Field(default=3e-6, gt=0)
    """Paper: 3e-6."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)

    beta: float = Field(default=0.001, ge=0)
    """Weight of the KL term to the reference model, inside the loss (paper: 0.001). 0: no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """With d the reference's log-probability minus the policy's: k1 is -d, k2 is d²/2, k3 is exp(d) - d - 1 (paper).
    http://joschu.net/blog/kl-approx.html. k2's gradient is that of the KL on-policy; k1's is zero in expectation."""
    kl_importance_weighted: bool = False
    """Multiply the KL term by the importance ratio, which makes it unbiased off-policy (DeepSeek-V3.2; k3 only)."""
    reference_refresh_steps: int | None = Field(default=400, gt=0)
    """The reference becomes the latest policy every this many steps (paper: 400). None: it stays the start model."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "luspo", "sapo"] = "grpo"
    """TRL's losses. `grpo`: mean over each completion, then over completions, as in the paper."""
    loss: str | None = None
    """A loss of your own for each token, `file.py:name` or `package.module:name`, in place of that of `loss_type`,
    which then says only how tokens are averaged (docs/reinforcement-learning.md)."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """`sequence` is GSPO (arXiv 2507.18071)."""
    epsilon: float = Field(default=0.2, gt=0)
    """Clip range of the ratio below 1 (R1-Zero's is not stated; TRL's default. Dev2 and R1: 10)."""
    epsilon_high: float | None = Field(default=None, gt=0)
    """Clip range above 1. None: `epsilon`. DAPO's clip-higher: 0.28."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the group's standard deviation (the paper), the batch's, or not (Dr. GRPO)."""
    sampler_correction: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None = (
        "token_truncate"
    )
    """Truncated importance ratio between the trainer's and the sampler's probabilities, which differ where the
    engine's arithmetic does (TRL's modes). None: off."""
    sampler_correction_max: float = Field(default=3.0, gt=1)
    """Largest ratio of the correction (TRL's default)."""

    balance: BalanceSettings = BalanceSettings()
    """Of a mixture of experts: how its load is kept even."""
    mtp_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight of the loss of the token after the next, by which the model's multi-token prediction module follows the
    policy; no gradient of it reaches the policy (docs/deepseek-v3.md). 0: the module stays as it is."""
    routing_replay: bool = False
    """Of a mixture of experts: the trainer's passes use the experts that the engine chose (docs/deepseek-v3.md)."""
    lora: LoRASettings | None = None
    """Adapters instead of all weights; null trains all. The reference is then the base with the adapters as they were
    at its last refresh, which for the start is none."""

    max_tokens_per_microbatch: int = Field(default=16_384, gt=0)
    """Tokens a forward pass; memory follows this number and not the batch. A longer single row runs alone. On a CPU at
    most 4,096: larger ones are no faster there."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more work."""
    speedups: SpeedUps = Field(default_factory=SpeedUps)

    checkpoint_every: int = Field(default=400, gt=0)
    """Optimizer steps between resumable checkpoints."""
    keep_checkpoints: int = Field(default=2, gt=0)
    log_rollouts_every: int = Field(default=10, gt=0)
    """Optimizer steps between files of written completions (the next rollout is written)."""

    def own_files(self) -> dict[str, Path]:
        """The code of a loss of one's own, with what that imports."""
        return {str(path): path for path in own_code(self.loss)} if self.loss else {}

    @classmethod
    def replaced(cls, below: dict, above: dict) -> dict[str, str]:
        """A recipe wins over keys that were set less specifically than it, such as in a parent of the profile."""
        recipe = above.get("recipe")
        figures = RECIPES.get(recipe, {}) if isinstance(recipe, str) else {}
        return {
            key: f"recipe: {recipe} sets it to {value}"
            for key, value in figures.items()
            if key in below and key not in above
        }

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, values: Any) -> Any:
        known = isinstance(values, dict) and isinstance(values.get("recipe"), str)
        return RECIPES.get(values["recipe"], {}) | values if known else values

    @model_validator(mode="after")
    def _values_agree(self):
        steps = self.rollout_steps
        check_trains_whole(self.balance, self.mtp_weight, self.lora)
        if self.routing_replay and not self.speedups.packing:
            raise ValueError(
                "routing_replay replays experts in packed passes, and speedups.packing is false; set it to true, or "
                "routing_replay: false"
            )
        if self.steps_ahead > steps:
            raise ValueError(
                f"steps_ahead={self.steps_ahead} is over the {steps} steps of a rollout (rollout_prompts / "
                f"prompts_per_step); one engine writes one rollout at a time, so set it to {steps} or less"
            )
        if self.steps_ahead and self.sampler_correction is None:
            raise ValueError(
                f"steps_ahead={self.steps_ahead} trains on samples of an older policy, which needs the truncated "
                "importance ratio; set sampler_correction: token_truncate, or steps_ahead: 0"
            )
        if self.fp8_rollouts and (self.sampler_correction is None or self.lora):
            raise ValueError(
                "fp8_rollouts samples from rounded weights of the model, which the truncated importance ratio makes up "
                "for; set sampler_correction: token_truncate and lora: null, or fp8_rollouts: false"
            )
        if self.steps_ahead and self.chooses_questions:
            raise ValueError(
                f"steps_ahead={self.steps_ahead} writes a rollout before the one before it is scored, by which "
                "sampled_prompts and online_difficulty choose questions and groups; set steps_ahead: 0"
            )
        if self.sampled_prompts is not None and self.sampled_prompts <= self.prompts_per_rollout:
            raise ValueError(
                f"sampled_prompts={self.sampled_prompts} is not above the {self.prompts_per_rollout} questions that a "
                f"rollout trains on (rollout_prompts, or prompts_per_step); raise it, or set it to null"
            )
        if self.kl_estimator != "k3" and (self.kl_importance_weighted or self.loss_type == "luspo"):
            raise ValueError(
                f"kl_estimator={self.kl_estimator} goes neither with kl_importance_weighted nor with loss_type=luspo; "
                "set kl_estimator: k3"
            )
        if self.prompts_per_rollout % self.prompts_per_step:
            raise ValueError(
                f"rollout_prompts={self.rollout_prompts} is not a multiple of "
                f"prompts_per_step={self.prompts_per_step}, so a rollout cannot be split into whole steps; "
                f"set rollout_prompts to {max(1, steps) * self.prompts_per_step} or null"
            )
        if self.checkpoint_every % steps:
            raise ValueError(
                f"checkpoint_every={self.checkpoint_every} is not a multiple of the {steps} steps of a rollout "
                f"(rollout_prompts={self.prompts_per_rollout} / prompts_per_step={self.prompts_per_step}), so a "
                f"resumed run would make rollouts twice; set checkpoint_every to "
                f"{max(steps, round(self.checkpoint_every / steps) * steps)}"
            )
        if self.beta > 0 and self.reference_refresh_steps and self.reference_refresh_steps % steps:
            raise ValueError(
                f"reference_refresh_steps={self.reference_refresh_steps} is not a multiple of the {steps} steps of a "
                f"rollout (rollout_prompts / prompts_per_step), so the reference would change inside a rollout; set it "
                f"to {max(steps, round(self.reference_refresh_steps / steps) * steps)}"
            )
        if self.lora and self.lora.dropout:
            raise ValueError(
                f"lora.dropout is {self.lora.dropout}, but the sampler uses none, so the probabilities that RL "
                "compares would not be of one policy; set lora.dropout to 0"
            )
        starts = [change.from_step for change in self.max_completion_schedule]
        if starts != sorted(set(starts)):
            raise ValueError(f"max_completion_schedule has from_step {starts}; they must rise. Put them in order")
        if self.loss_type == "cispo" and self.epsilon_high is None:
            raise ValueError("loss_type=cispo clips at epsilon_high, which is not set; set epsilon_high (paper: 5.0)")
        if self.loss_type == "luspo" and self.importance_sampling_level != "sequence":
            raise ValueError(
                f"loss_type=luspo needs importance_sampling_level=sequence, got {self.importance_sampling_level}; "
                "set importance_sampling_level: sequence"
            )
        return self

    def served_adapter_rank(self, engine: EngineSettings) -> int | None:
        """Rank of the adapters that the engine takes over as such; None where it takes over merged weights: all of
        them are trained, the base is quantised, or the engine or the profile merges."""
        as_adapters = self.lora and self.lora.quantize == "none" and self.speedups.sync_adapters
        return self.lora.rank if as_adapters and engine.takes_adapters else None

    def microbatch_tokens(self, device: str) -> int:
        """Tokens a forward pass on a `device` (`cpu`, `cuda`)."""
        most = self.max_tokens_per_microbatch
        return min(most, CPU_MICROBATCH) if device == "cpu" else most

    @property
    def prompts_per_rollout(self) -> int:
        return self.rollout_prompts or self.prompts_per_step

    @property
    def prompts_sampled(self) -> int:
        """Different questions that a rollout asks."""
        return self.sampled_prompts or self.prompts_per_rollout

    @property
    def chooses_questions(self) -> bool:
        """Whether what is asked or trained depends on how groups came out."""
        return self.sampled_prompts is not None or self.online_difficulty is not None

    @property
    def rollout_steps(self) -> int:
        """Optimizer steps made on one rollout."""
        return max(1, self.prompts_per_rollout // self.prompts_per_step)

    @property
    def completions_per_step(self) -> int:
        return self.prompts_per_step * self.group_size

    @property
    def longest_completion(self) -> int:
        """The largest limit that the run ever uses, in tokens."""
        within = [c.tokens for c in self.max_completion_schedule if c.from_step < self.max_steps]
        return max([self.max_completion_tokens, *within])

    def completion_limit(self, step: int) -> int:
        """Longest completion in tokens at optimizer step `step` (the first is 0)."""
        reached = [change.tokens for change in self.max_completion_schedule if step >= change.from_step]
        return [self.max_completion_tokens, *reached][-1]

    def describe(self) -> dict[str, int | str]:
        """The arithmetic that follows from the settings, for `make check`."""
        completions = self.completions_per_step
        limits = [self.completion_limit(step) for step in self._limit_starts()]
        spans = self._limit_spans()
        return {
            "completions a step": f"{self.prompts_per_step} questions × {self.group_size} = {completions}",
            "completions a rollout": f"{self.prompts_sampled} questions × {self.group_size} = "
            f"{self.prompts_sampled * self.group_size}, for {self.rollout_steps} optimizer steps"
            + (f" on {self.prompts_per_rollout} of the questions" if self.sampled_prompts else ""),
            "optimizer steps": self.max_steps,
            "questions in all": self.max_steps * self.prompts_sampled // self.rollout_steps,
            "longest completion": " → ".join(map(str, limits)),
            "most completion tokens": sum(
                span * completions * self.prompts_sampled // self.prompts_per_rollout * limit
                for span, limit in zip(spans, limits, strict=True)
            ),
            "reference": self._describe_reference(),
        }

    def _limit_starts(self) -> list[int]:
        return [0, *(c.from_step for c in self.max_completion_schedule if c.from_step < self.max_steps)]

    def _limit_spans(self) -> list[int]:
        starts = self._limit_starts()
        return [end - start for start, end in zip(starts, [*starts[1:], self.max_steps], strict=True)]

    def _describe_reference(self) -> str:
        if self.beta == 0:
            return "none (beta is 0)"
        if self.reference_refresh_steps is None:
            return f"the start model, KL weight {self.beta}"
        return f"the latest policy every {self.reference_refresh_steps} steps, KL weight {self.beta}"
