"""The sections of a profile. A default is the paper's figure where the paper has one (source in the comment)."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from data_recipes.endpoint import check_named
from data_recipes.filters import FilterSettings
from data_recipes.rewriting import RewriterSettings
from pipeline.rollouts import Sampling
from pipeline.strict import Strict
from pipeline.training.grpo_settings import GRPOSettings
from pipeline.training.sft import MAX_TOKENS, SFTSettings
from rewards import RewardSpec


class QuestionSource(Strict):
    """Where questions come from: a recipe by name (`pocket_arithmetic`), a file (`jsonl:data/math.jsonl`) or a
    reasoning-gym task (`reasoning_gym:chain_sum`)."""

    use: str
    args: dict[str, Any] = {}
    weight: float = Field(1.0, gt=0)
    """Share of this source among the sources of its group."""


class Heldout(Strict):
    """Held-out evaluation while an RL stage trains, for its curve."""

    set: str
    """The name of one of `stages.evaluate.sets`."""
    every: int = Field(100, ge=1)
    """Optimizer steps between two points of the curve."""
    questions: int = Field(64, ge=1)
    samples: int = Field(4, ge=1)


class BaseModelStage(Strict):
    """Each model is `pocket:NAME`, `hub:OWNER/NAME`, `folder:PATH` or `gguf:PATH`."""

    teacher: str
    students: dict[str, str]

    @field_validator("students")
    @classmethod
    def _named_plainly(cls, students: dict[str, str]) -> dict[str, str]:
        for name in students:
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
                raise ValueError(f"the student name '{name}' becomes a folder name: use letters, digits, '-', '_', '.'")
        return students


class RLStage(Strict):
    grpo: GRPOSettings = GRPOSettings()
    rewards: list[RewardSpec] = Field(min_length=1)
    questions: dict[str, int | None] = {"reasoning": None}
    """Questions to train on from each group of the profile's `questions`; null takes all that a finite group has."""
    heldout: Heldout | None = None
    allow_weak_sandbox: bool = False


class SampledData(Strict):
    """How a stage turns samples of a policy into rows."""

    questions: dict[str, int | None] = {"reasoning": None}
    samples_per_question: int = Field(4, ge=1)
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=MAX_TOKENS)  # paper, cold start: temperature 1.0
    shard_questions: int = Field(256, ge=1)
    """Questions a finished shard holds: what a resumed run need not sample again."""
    filters: FilterSettings
    keep_per_question: int = Field(1, ge=1)
    max_rows: int | None = Field(None, ge=1)
    """Quota of reasoning rows."""


class ColdStartDataStage(SampledData):
    filters: FilterSettings = FilterSettings(format="r1_zero")
    rewriter: RewriterSettings = RewriterSettings()
    max_rows: int | None = 5000  # paper: "thousands"


class RejectionSamplingStage(SampledData):
    filters: FilterSettings = FilterSettings(format="r1")
    max_rows: int | None = 600_000  # paper: about 600k reasoning rows
    general_rows: int = Field(200_000, ge=0)  # paper: about 200k
    general_group: str = "general"


class SFTStage(Strict):
    sft: SFTSettings = SFTSettings()


class PreferenceSettings(Strict):
    """Pairs for one reward model: answers sampled from the SFT model, judged by an annotator."""

    group: str
    prompts: int = Field(ge=1)
    samples_per_prompt: int = Field(4, ge=2)
    judgements: int = Field(4, ge=1)  # paper: judged four times in random order
    min_gap: float = 1.0  # paper: kept when the gap is over 1
    part: Literal["summary", "whole"]
    """What the scorer reads: the paper's helpful model the summary, its safety model the whole response."""


class RewardModelStage(Strict):
    annotator: Literal["pocket", "endpoint"] = "endpoint"
    url: str | None = None
    model: str | None = None
    scorers: dict[Literal["helpful", "harmless"], PreferenceSettings] = {
        "helpful": PreferenceSettings(group="general", prompts=66_000, part="summary"),  # paper: 66k pairs
        "harmless": PreferenceSettings(group="harmless", prompts=106_000, part="whole"),  # paper: 106k prompts
    }
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=MAX_TOKENS)
    epochs: int = Field(1, ge=1)  # paper: 1
    learning_rate: float = Field(6e-6, gt=0)  # paper: 6e-6
    batch_size: int = Field(256, ge=1)  # paper: 256
    max_tokens: int = Field(8192, ge=1)

    @model_validator(mode="after")
    def _annotator_is_named(self) -> "RewardModelStage":
        check_named(self.annotator, self.url, self.model)
        return self


class DistillStage(Strict):
    sft: SFTSettings = SFTSettings(batch_size=64)  # paper: batch 64
    learning_rates: dict[str, float] = {}
    """A student's own peak learning rate, where it differs from `sft.learning_rate`."""


class StudentRLStage(RLStage):
    """RL on one student base with the tokens that distilling it took: `grpo.max_steps` is only an upper bound."""

    student: str
    grpo: GRPOSettings = GRPOSettings(learning_rate=2e-6)  # paper: the dense 32B Zero


class EvaluationSet(Strict):
    source: QuestionSource
    questions: int = Field(ge=1)
    samples: int = Field(ge=1)
    """Samples a question: pass@1 is their mean, cons@k the vote over k of them."""
    metric: Literal["accuracy", "quality"] = "accuracy"
    """`accuracy`: the row's verifier. `quality`: the pocket world's ground truth about general answers."""


class EvaluateStage(Strict):
    sets: dict[str, EvaluationSet]
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=MAX_TOKENS)  # paper: 0.6, 0.95, 32,768
    consensus: list[int] = [16, 64]
    seed: int = 20250122
    """The held-out questions and the sampling of them hang on this seed, not on the run's."""

    @model_validator(mode="after")
    def _accuracy_is_measured(self) -> "EvaluateStage":
        if not any(settings.metric == "accuracy" for settings in self.sets.values()):
            raise ValueError(
                f"sets has {', '.join(self.sets) or 'none'}, none of them with metric: accuracy. "
                "Add one: the ladder is measured by it"
            )
        return self


class ReportStage(Strict):
    rollouts_per_step: int = Field(16, ge=1)


class Templates(Strict):
    r1_zero: str | None = None
    """The plain-text prompt of base models and R1-Zero, with `{question}`; null is the paper's."""

    @field_validator("r1_zero")
    @classmethod
    def _has_a_question(cls, text: str | None) -> str | None:
        if text is not None and text.count("{question}") != 1:
            raise ValueError(f"the template {text!r} should hold {{question}} exactly once")
        return text


class Stages(Strict):
    base_model: BaseModelStage
    r1_zero: RLStage
    cold_start_data: ColdStartDataStage = ColdStartDataStage()
    cold_start_sft: SFTStage = SFTStage()
    reasoning_rl: RLStage
    rejection_sampling: RejectionSamplingStage = RejectionSamplingStage()
    sft: SFTStage = SFTStage()
    reward_model: RewardModelStage
    general_rl: RLStage
    distill: DistillStage = DistillStage()
    student_rl: StudentRLStage
    evaluate: EvaluateStage
    report: ReportStage = ReportStage()
