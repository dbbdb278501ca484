"""The sections of a profile that train a policy on its own samples: RL stages, and on-policy distillation."""

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.data import Heldout, QuestionCount
from pipeline.config.grpo import GRPOSettings
from pipeline.config.rewards import RewardSpec
from pipeline.core.strict import Strict

DistillMethod = Literal["sft", "on_policy", "sft_then_on_policy"]
SFT: DistillMethod = "sft"
BOTH: DistillMethod = "sft_then_on_policy"


class Difficulty(Strict):
    """Keeps the questions that the policy solves sometimes, measured before RL starts: a group whose answers are all
    right or all wrong teaches nothing."""

    samples: int = Field(8, ge=2)
    """Samples a question, at the stage's own temperature and length."""
    min_pass_rate: float = Field(0.1, ge=0, le=1)
    max_pass_rate: float = Field(0.9, ge=0, le=1)
    """Kept are questions whose share of right samples lies from the first to the second, ends included."""
    shard_questions: int = Field(256, ge=1)
    """Questions a finished shard holds: what a resumed run need not sample again."""

    @model_validator(mode="after")
    def _window_is_open(self) -> "Difficulty":
        rates = [passed / self.samples for passed in range(self.samples + 1)]
        if not any(self.min_pass_rate <= rate <= self.max_pass_rate for rate in rates):
            raise ValueError(
                f"no question can have a pass rate from {self.min_pass_rate} to {self.max_pass_rate}: over "
                f"{self.samples} samples rates are multiples of 1/{self.samples}. Widen the window or sample more"
            )
        return self


class RLStage(Strict):
    grpo: GRPOSettings = GRPOSettings()
    rewards: list[RewardSpec] = Field(min_length=1)
    questions: dict[str, QuestionCount | None] = {"reasoning": None}
    """Questions to train on from each group of the profile's `questions`; null takes all that a finite group has."""
    difficulty: Difficulty | None = None
    heldout: Heldout | None = None

    @model_validator(mode="after")
    def _some_step_can_be_kept(self) -> "RLStage":
        if self.heldout and self.heldout.keep_best and self.heldout.best_from > self.grpo.max_steps:
            raise ValueError(
                f"heldout.best_from is {self.heldout.best_from}, but the stage ends after grpo.max_steps "
                f"{self.grpo.max_steps}, so no checkpoint could be kept. Lower best_from"
            )
        return self


class Budget(Strict):
    """What a run may spend, over all attempts: it ends after the step at which the first of these is passed, and the
    learning rate falls by the share that is spent."""

    tokens: int | None = Field(None, ge=1)
    """Prompts and completions of all rollouts."""
    completion_tokens: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    """Of optimizer steps: sampling, scoring and updates. Held-out evaluation and checkpoints do not count."""

    @property
    def is_open(self) -> bool:
        """Whether it ends nothing."""
        return self.tokens is None and self.completion_tokens is None and self.seconds is None


class StudentBudget(Budget):
    """Nothing set: the tokens that distilling the student took."""

    seconds: float | Literal["equal"] | None = None
    """`equal`: as long as distilling the student took."""

    @model_validator(mode="after")
    def _some_time(self) -> "StudentBudget":
        if isinstance(self.seconds, float) and self.seconds <= 0:
            raise ValueError(f"seconds is {self.seconds}; give more than 0, or equal")
        return self


class StudentRLStage(RLStage):
    """RL on one student base, as the comparison with distillation: `grpo.max_steps` is only an upper bound."""

    LATER = frozenset({"budget"})

    student: str
    grpo: GRPOSettings = GRPOSettings(learning_rate=2e-6)  # paper: the dense 32B Zero
    budget: StudentBudget = StudentBudget()


class OnPolicySettings(RLStage):
    """A student learns on its own samples: the teacher's log-probability of a token minus its own is the token's
    advantage. `grpo.max_steps` is only an upper bound."""

    grpo: GRPOSettings = GRPOSettings(
        rollout_prompts=None,
        max_steps=1_000,
        beta=0.0,
        reference_refresh_steps=None,
        loss_type="dapo",
        max_completion_schedule=[],
    )
    """Every token weighs the same, and no reference model holds the student to where it began."""
    rewards: list[RewardSpec] = Field(min_length=1)
    """Scored and logged. One whose `weight` is not 0 adds its advantages to the teacher's."""
    teacher_weight: float = Field(1.0, gt=0)
    """Of the teacher's advantages, beside those that rewards give."""
    sft_epochs: int = Field(1, ge=1)
    """With `sft_then_on_policy`: epochs of SFT that come before."""
    budget: Budget = Budget()
    """Nothing set: what is left of the tokens of `sft.epochs` epochs."""

    @model_validator(mode="after")
    def _groups_are_chosen_by_rewards(self) -> "OnPolicySettings":
        rewarded = any(reward.weight for reward in self.rewards)
        choosing = {
            "dynamic_sampling": self.grpo.dynamic_sampling,
            "sampled_prompts": self.grpo.sampled_prompts,
            "online_difficulty": self.grpo.online_difficulty,
        }
        for key, value in choosing.items():
            if value and not rewarded:
                raise ValueError(
                    f"grpo.{key} chooses groups by their rewards, and every reward has weight 0, so that all groups "
                    f"are alike. Leave {key} out, or give a reward a weight"
                )
        return self
