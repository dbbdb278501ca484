"""The sections of a profile. A default is the paper's figure where the paper has one (source in the comment)."""

from types import UnionType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from pipeline.config.data import (
    AnnotatorSettings,
    AnyAnnotator,
    AnyRewriter,
    Asking,
    FilterSettings,
    Heldout,
    NoRewriterSettings,
    PreferenceSettings,
    QuestionCount,
    QuestionSource,
    default_samples,
)
from pipeline.config.engine import Sampling
from pipeline.config.grpo import GRPOSettings
from pipeline.config.reward_model import RewardTraining
from pipeline.config.rewards import RewardSpec
from pipeline.config.sft import MAX_TOKENS, SFTSettings
from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.strict import Strict

LONGEST_NAME = 64
ENDPOINT_KEYS = ("url", "model")
SHARE_ROUNDING = 1e-6
"""What shares may miss of 1 in all: thirds cannot be written down."""


def file_names(what: str) -> AfterValidator:
    """Refuses keys that could not become part of a file's name."""

    def check(named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or len(name) > LONGEST_NAME:
                raise ValueError(
                    f"the {what} name '{name:.80}' becomes a file's name: use letters, digits, '-', '_', '.', at most "
                    f"{LONGEST_NAME} of them"
                )
        return named

    return AfterValidator(check)


class BaseModelStage(Strict):
    """Each model is a source as `pipeline.models.sources` lists them, such as `hub:OWNER/NAME` or `folder:PATH`."""

    teacher: str
    students: Annotated[dict[str, str], file_names("student")]
    tokenizers: dict[str, TokenizerSettings] = {}
    """What a base's own tokenizer lacks or has wrong: `teacher` or a student's name -> tokens and template."""
    contexts: dict[str, PositiveInt] = {}
    """Longest text in tokens, in place of that in the base's configuration, for a model that is to learn longer"""

    @model_validator(mode="after")
    def _tokenizers_are_of_models(self) -> "BaseModelStage":
        for key, role in [("tokenizers", role) for role in self.tokenizers] + [("contexts", r) for r in self.contexts]:
            if role not in ("teacher", *self.students):
                raise ValueError(
                    f"{key} names '{role}', but the models are teacher, {', '.join(self.students)}. Name one of these"
                )
        return self


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


class SampledData(Strict):
    """How a stage turns samples of a policy into rows."""

    LATER = frozenset({"languages"})

    questions: dict[str, QuestionCount | None] = {"reasoning": None}
    samples_per_question: int = Field(4, ge=1)
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=MAX_TOKENS)  # paper, cold start: temperature 1.0
    shard_questions: int = Field(256, ge=1)
    """Questions a finished shard holds: what a resumed run need not sample again."""
    filters: FilterSettings
    keep_per_question: int = Field(1, ge=1)
    max_rows: int | None = Field(None, ge=1)
    """Quota of reasoning rows."""
    languages: dict[str, Annotated[float, Field(gt=0, le=1)]] | None = None
    """Share of `max_rows` for the questions of each language, such as {en: 0.5, zh: 0.5}: sampling goes on until each
    has its share, or no question is left. null: rows come as the policy's answers pass, of whatever language."""

    @model_validator(mode="after")
    def _shares_are_of_something(self) -> "SampledData":
        if self.languages is None:
            return self
        if self.max_rows is None:
            raise ValueError("languages are shares of max_rows, which is null. Set max_rows, or take out languages")
        if abs(sum(self.languages.values()) - 1) > SHARE_ROUNDING:
            raise ValueError(
                f"the shares of languages are {self.languages}, in all {sum(self.languages.values()):g}, and should be "
                "1 in all. A language that is not named gets no rows"
            )
        return self

    @property
    def language_quotas(self) -> dict[str, int] | None:
        """Rows for each language, `max_rows` in all: shares rounded down, what is left over to the largest rests."""
        if self.languages is None:
            return None
        exact = {language: share * self.max_rows for language, share in self.languages.items()}
        quotas = {language: int(rows + SHARE_ROUNDING) for language, rows in exact.items()}
        by_rest = sorted(exact, key=lambda language: quotas[language] - exact[language])
        for language in by_rest[: self.max_rows - sum(quotas.values())]:
            quotas[language] += 1
        return quotas


class ColdStartDataStage(SampledData):
    filters: FilterSettings = FilterSettings(format="r1_zero")
    rewriter: AnyRewriter = NoRewriterSettings()
    max_rows: int | None = 5000  # paper: "thousands"


class RejectionSamplingStage(SampledData):
    filters: FilterSettings = FilterSettings(format="r1")
    max_rows: int | None = 600_000  # paper: about 600k reasoning rows
    general_rows: int = Field(200_000, ge=0)  # paper: about 200k
    general_group: str = "general"


class SFTStage(Strict):
    sft: SFTSettings = SFTSettings()


class RewardModelStage(RewardTraining):
    LATER = frozenset({"annotator_max_tokens"})

    annotator: AnyAnnotator
    """In older profiles: its kind, with `url` and `model` beside it."""
    annotator_max_tokens: int = Field(4096, ge=1)
    """Longest answer of the annotator, in the server's tokens: a score, after what a model that thinks writes."""
    asking: Asking = Field(Asking(), exclude=True)
    scorers: dict[Literal["helpful", "harmless"], PreferenceSettings] = {
        "helpful": PreferenceSettings(group="helpful_prompts", prompts=66_000, part="summary"),  # paper: 66k pairs
        "harmless": PreferenceSettings(group="harmless_prompts", prompts=106_000, part="whole"),  # paper: 106k prompts
    }
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=MAX_TOKENS)

    @classmethod
    def respelled(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        annotator = AnnotatorSettings.respelled(section.get("annotator", {}))
        beside = {key: section[key] for key in ENDPOINT_KEYS if key in section}
        if not beside or not isinstance(annotator, dict) or beside.keys() & annotator.keys():
            return section
        rest = {key: value for key, value in section.items() if key not in beside}
        return {**rest, "annotator": {**annotator, **beside}}

    def as_before(self, written: dict[str, Any]) -> dict[str, Any]:
        """The annotator's keys stand beside the others, as they once did in profiles."""
        annotator = {**dict.fromkeys(ENDPOINT_KEYS), **written.pop("annotator")}
        return {**written, "annotator": annotator.pop("kind"), **annotator}


class DistillStage(SFTStage):
    sft: SFTSettings = SFTSettings(batch_size=64)  # paper: batch 64
    learning_rates: dict[str, float] = {}
    """A student's own peak learning rate, where it differs from `sft.learning_rate`."""


class StudentRLStage(RLStage):
    """RL on one student base with the tokens that distilling it took: `grpo.max_steps` is only an upper bound."""

    student: str
    grpo: GRPOSettings = GRPOSettings(learning_rate=2e-6)  # paper: the dense 32B Zero


class EvaluationSet(Strict):
    source: QuestionSource
    questions: int | None = Field(None, ge=1, le=100_000)
    """Questions to draw; null takes all that a file, a data set or a benchmark has."""
    samples: int = Field(ge=1)
    """Samples a question: pass@1 is their mean, cons@k the vote over k of them, pass@k the chance that one is.
    A benchmark's own k where left out."""
    metric: Literal["accuracy", "quality"] = "accuracy"
    """`accuracy`: the row's verifier. `quality`: the pocket world's ground truth about general answers."""

    @model_validator(mode="before")
    @classmethod
    def _benchmarks_know_their_k(cls, data: Any) -> Any:
        source = data.get("source") if isinstance(data, dict) else None
        samples = default_samples(str(source.get("use"))) if isinstance(source, dict) else None
        return {"samples": samples, **data} if samples else data

    @property
    def questions_in_words(self) -> str:
        return "all" if self.questions is None else str(self.questions)


class EvaluateStage(Strict):
    sets: Annotated[dict[str, EvaluationSet], file_names("set")]
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=MAX_TOKENS)  # paper: 0.6, 0.95, 32,768
    consensus: list[Annotated[int, Field(ge=1)]] = [16, 64]
    seed: int = Field(20250122, ge=0, lt=2**31)
    """Seed of the held-out questions and of their sampling, which do not depend on the run's seed."""

    @model_validator(mode="after")
    def _accuracy_is_measured(self) -> "EvaluateStage":
        if not any(settings.metric == "accuracy" for settings in self.sets.values()):
            raise ValueError(
                f"sets has {', '.join(self.sets) or 'none'}, none of them with metric: accuracy. "
                "Add one: the ladder is measured by it"
            )
        return self

    @model_validator(mode="after")
    def _some_set_can_vote(self) -> "EvaluateStage":
        if "consensus" not in self.model_fields_set:
            return self
        most = max((s.samples for s in self.sets.values() if s.metric == "accuracy"), default=0)
        for k in self.consensus:
            if k > most:
                raise ValueError(
                    f"consensus has {k}, but no set with metric: accuracy has more than {most} samples a question, so "
                    f"cons@{k} would never be computed. Take {k} out, or raise a set's samples to {k}"
                )
        return self


class ReportStage(Strict):
    rollouts_per_step: int = Field(16, ge=1)


class MadeFor(Strict):
    """The GPUs that a profile is made for: memory is estimated for these."""

    gpus: int = Field(ge=1)
    """How many."""
    gib: float = Field(gt=0)
    """Memory of each, in GiB."""


class Watchdog(Strict):
    """When to warn about, and when to stop, a run that hangs or whose loss is not finite. Does not affect results."""

    warn_s: float = Field(300.0, gt=0)
    """Seconds without progress after which a warning names the phase, with the stack of every thread."""
    stop_s: float | None = Field(3600.0, gt=0)
    """Seconds without progress after which the run ends with an error, its last checkpoint kept. null: never."""
    nonfinite_steps: int = Field(3, ge=1)
    """Optimizer steps in a row with a loss or gradient that is not finite, after which training ends."""

    @model_validator(mode="after")
    def _warns_first(self) -> "Watchdog":
        if self.stop_s is not None and self.stop_s <= self.warn_s:
            raise ValueError(
                f"stop_s is {self.stop_s:g}, which is not above warn_s {self.warn_s:g}: raise it, or lower warn_s"
            )
        return self


Section = TypeVar("Section", bound=Strict)


class Stages(Strict):
    """A section for each stage of `pipeline.ladder`, under the stage's id and in the ladder's order."""

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

    def of(self, kind: type[Section] | UnionType) -> dict[str, Section]:
        """Stage id -> section, for the sections of a class or a union of classes, in the ladder's order."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in sections.items() if isinstance(section, kind)}

    @property
    def chosen_students(self) -> dict[str, str]:
        """Stage id -> the student it trains, for the stages that train one."""
        return {name: section.student for name, section in self.of(StudentRLStage).items()}
