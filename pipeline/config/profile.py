"""A whole profile, and the checks that need more than one section."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.data import Cleaning, QuestionSource, Templates
from pipeline.config.engine import EngineSettings
from pipeline.config.stages import MadeFor, Stages, Watchdog
from pipeline.core.strict import Strict


class Profile(Strict):
    """What one climb of the ladder is made with."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str
    seed: int = Field(0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    made_for: MadeFor | None = None
    """GPUs that `make check` estimates memory for; null: this machine."""
    engine: EngineSettings
    trackers: list[Literal["tensorboard", "trackio", "wandb"]] = ["tensorboard"]
    """Where the figures of RL stages go while they train, besides `metrics.jsonl`."""
    templates: Templates = Templates()
    questions: dict[str, Annotated[list[QuestionSource], Field(min_length=1)]]
    """Groups of sources; stages say how many questions they take from which group."""
    cleaning: Cleaning = Cleaning()
    watchdog: Watchdog = Watchdog()
    allow_weak_sandbox: bool = False
    """Run programs that models write below the full sandbox level too (`make check` shows the level)."""
    stages: Stages

    @model_validator(mode="after")
    def _groups_exist(self) -> "Profile":
        wanted = {
            f"stages.{stage}.questions": getattr(self.stages, stage).questions
            for stage in (
                "r1_zero",
                "cold_start_data",
                "reasoning_rl",
                "rejection_sampling",
                "general_rl",
                "student_rl",
            )
        }
        wanted["stages.rejection_sampling.general_group"] = [self.stages.rejection_sampling.general_group]
        for name, scorer in self.stages.reward_model.scorers.items():
            wanted[f"stages.reward_model.scorers.{name}.group"] = [scorer.group]
        for key, groups in wanted.items():
            for group in groups:
                if group not in self.questions:
                    raise ValueError(
                        f"{key} names the question group '{group}', but `questions` has only "
                        f"{', '.join(sorted(self.questions)) or 'none'}. Add the group or name one of these."
                    )
        return self

    @model_validator(mode="after")
    def _students_exist(self) -> "Profile":
        students = self.stages.base_model.students
        named = {"stages.student_rl.student": [self.stages.student_rl.student]}
        named["stages.distill.learning_rates"] = list(self.stages.distill.learning_rates)
        for key, names in named.items():
            for name in names:
                if name not in students:
                    raise ValueError(
                        f"{key} names the student '{name}', but stages.base_model.students has only "
                        f"{', '.join(students) or 'none'}. Add it there or name one of these."
                    )
        return self

    @model_validator(mode="after")
    def _heldout_sets_exist(self) -> "Profile":
        sets = self.stages.evaluate.sets
        for stage in ("r1_zero", "reasoning_rl", "general_rl", "student_rl"):
            heldout = getattr(self.stages, stage).heldout
            if heldout and heldout.set not in sets:
                raise ValueError(
                    f"stages.{stage}.heldout.set is '{heldout.set}', but stages.evaluate.sets has only "
                    f"{', '.join(sets) or 'none'}. Add it there or name one of these."
                )
        return self

    @model_validator(mode="after")
    def _lengths_fit_the_context(self) -> "Profile":
        limit = self.engine.max_model_len
        lengths = {
            f"stages.{stage}.grpo.max_completion_tokens": getattr(self.stages, stage).grpo.longest_completion
            for stage in ("r1_zero", "reasoning_rl", "general_rl", "student_rl")
        }
        for stage in ("cold_start_data", "rejection_sampling", "reward_model", "evaluate"):
            lengths[f"stages.{stage}.sampling.max_tokens"] = getattr(self.stages, stage).sampling.max_tokens
        for key, tokens in lengths.items():
            if tokens >= limit:
                raise ValueError(
                    f"{key} is {tokens}, which leaves no room for a prompt in engine.max_model_len {limit}. "
                    "Raise engine.max_model_len or lower the completion length."
                )
        return self
