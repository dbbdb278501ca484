"""A whole profile, and the checks that need more than one section."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.budget import BudgetSettings
from pipeline.config.data import Cleaning, Heldout, QuestionSource, Templates
from pipeline.config.engine import AnyEngine
from pipeline.config.lora import LoRASettings, with_adapters
from pipeline.config.parallel import ParallelSettings
from pipeline.config.rewards import SCORER
from pipeline.config.stages import (
    DistillStage,
    EvaluateStage,
    MadeFor,
    RejectionSamplingStage,
    RewardModelStage,
    SampledData,
    SFTStage,
    Stages,
    Watchdog,
)
from pipeline.core.strict import Strict

NOTHING_TO_CHOOSE_BY = (
    "the last checkpoint is handed on: heldout.keep_best has nothing to choose by, since stages.evaluate.sets.{set} "
    "asks all questions that its source has (questions: null). Give it a number that leaves some over."
)


class Profile(Strict):
    """What one run of the ladder is made with."""

    LATER: ClassVar[frozenset[str]] = frozenset({"lora", "takes_s", "budget"})

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str
    seed: int = Field(0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    made_for: MadeFor | None = None
    """GPUs that `make check` estimates memory for; null: this machine."""
    engine: AnyEngine
    parallel: ParallelSettings = ParallelSettings()
    """How several processes share a model. No part of a stage's identity: a run goes on with another number."""
    trackers: list[Literal["tensorboard", "trackio", "wandb"]] = ["tensorboard"]
    """Where the figures of RL stages go while they train, besides `metrics.jsonl`."""
    templates: Templates = Templates()
    questions: dict[str, Annotated[list[QuestionSource], Field(min_length=1)]]
    """Groups of sources; stages say how many questions they take from which group."""
    cleaning: Cleaning = Cleaning()
    watchdog: Watchdog = Watchdog()
    allow_weak_sandbox: bool = False
    """Run programs that models write below the full sandbox level too (`make check` shows the level)."""
    lora: LoRASettings | None = None
    """Adapters in every stage that trains. A stage's own `lora` section wins, key by key, and `lora: null` there trains
    all weights. Reward models, whose base is never quantised, take it with `quantize: none`."""
    takes_s: dict[str, float] = {}
    """Seconds that a stage takes, about, on the machine that the profile is made for: the first run's estimate, which
    goes by what stages really take as soon as some have ended. Changes no result."""
    budget: BudgetSettings = BudgetSettings()
    """What `make all BUDGET=2h` may change, and how far."""
    stages: Stages

    @model_validator(mode="before")
    @classmethod
    def _every_stage_takes_the_adapters(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("lora"), dict):
            return data
        return {**data, "stages": with_adapters(data.get("stages"), Stages, data["lora"])}

    def batches(self) -> dict[str, int]:
        """The key of each batch that the processes of a run divide among themselves -> its size."""
        found = {
            f"stages.{name}.grpo.prompts_per_step": section.grpo.prompts_per_step
            for name, section in self.stages.policies.items()
        }
        found |= {
            f"stages.{name}.grpo.sampled_prompts": section.grpo.sampled_prompts
            for name, section in self.stages.policies.items()
            if section.grpo.sampled_prompts
        }
        found |= {f"stages.{name}.sft.batch_size": s.sft.batch_size for name, s in self.stages.of(SFTStage).items()}
        return found | {
            f"stages.{name}.batch_size": section.batch_size
            for name, section in self.stages.of(RewardModelStage).items()
        }

    def adapters(self) -> dict[str, LoRASettings]:
        """The key of each section that trains adapters -> their settings."""
        found = {f"stages.{name}.grpo": section.grpo.lora for name, section in self.stages.policies.items()}
        found |= {f"stages.{name}.sft": section.sft.lora for name, section in self.stages.of(SFTStage).items()}
        found |= {f"stages.{name}": section.lora for name, section in self.stages.of(RewardModelStage).items()}
        return {key: lora for key, lora in found.items() if lora}

    @model_validator(mode="after")
    def _groups_exist(self) -> "Profile":
        wanted = {
            f"stages.{name}.questions": section.questions
            for name, section in {**self.stages.policies, **self.stages.of(SampledData)}.items()
        }
        for name, section in self.stages.of(RejectionSamplingStage).items():
            wanted[f"stages.{name}.general_group"] = [section.general_group]
        for name, section in self.stages.of(RewardModelStage).items():
            wanted |= {f"stages.{name}.scorers.{key}.group": [scorer.group] for key, scorer in section.scorers.items()}
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
        named = {f"stages.{name}.student": [student] for name, student in self.stages.chosen_students.items()}
        for name, section in self.stages.of(DistillStage).items():
            named[f"stages.{name}.learning_rates"] = list(section.learning_rates)
            named[f"stages.{name}.compare"] = list(section.compare)
        for key, names in named.items():
            for name in names:
                if name not in students:
                    raise ValueError(
                        f"{key} names the student '{name}', but stages.base_model.students has only "
                        f"{', '.join(students) or 'none'}. Add it there or name one of these."
                    )
        return self

    def chooses(self, heldout: Heldout | None) -> bool:
        """Whether a stage hands on the best checkpoint of this held-out curve: `keep_best`, and questions to choose by,
        which a set that asks all that its source has (`questions: null`) does not leave."""
        return bool(heldout and heldout.keep_best) and self.stages.evaluate.sets[heldout.set].questions is not None

    @model_validator(mode="after")
    def _heldout_sets_exist(self) -> "Profile":
        sets = self.stages.evaluate.sets
        for name, section in self.stages.policies.items():
            if section.heldout and section.heldout.set not in sets:
                raise ValueError(
                    f"stages.{name}.heldout.set is '{section.heldout.set}', but stages.evaluate.sets has only "
                    f"{', '.join(sets) or 'none'}. Add it there or name one of these."
                )
        return self

    @model_validator(mode="after")
    def _scorers_exist(self) -> "Profile":
        scorers = [scorer for section in self.stages.of(RewardModelStage).values() for scorer in section.scorers]
        for name, section in self.stages.policies.items():
            for spec in section.rewards:
                if spec.scorer is not None and spec.scorer not in scorers:
                    raise ValueError(
                        f"stages.{name}.rewards: {spec.use} has model: {SCORER}{spec.scorer}, but the scorers of "
                        f"stages.reward_model are {', '.join(scorers) or 'none'}. Add it there or name one of these."
                    )
        return self

    @model_validator(mode="after")
    def _lengths_fit_the_context(self) -> "Profile":
        limit = self.engine.max_model_len
        lengths = {
            f"stages.{name}.grpo.max_completion_tokens": section.grpo.longest_completion
            for name, section in self.stages.policies.items()
        }
        for name, section in self.stages.of(SampledData | RewardModelStage | EvaluateStage).items():
            lengths[f"stages.{name}.sampling.max_tokens"] = section.sampling.max_tokens
        for key, tokens in lengths.items():
            if tokens >= limit:
                raise ValueError(
                    f"{key} is {tokens}, which leaves no room for a prompt in engine.max_model_len {limit}. "
                    "Raise engine.max_model_len or lower the completion length."
                )
        return self
