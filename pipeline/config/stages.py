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
    NoRewriterSettings,
    PreferenceSettings,
    QuestionCount,
    QuestionSource,
    default_samples,
)
from pipeline.config.engine import Sampling
from pipeline.config.policy import BOTH, SFT, DistillMethod, OnPolicySettings, RLStage, StudentRLStage
from pipeline.config.reward_model import RewardTraining
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
    """However a student is distilled, it gets the tokens of `sft.epochs` epochs over the rows, unless
    `on_policy.budget` says otherwise: rows that it is fine-tuned on, and prompts and completions of its own."""

    LATER = frozenset({"method", "on_policy", "compare"})

    sft: SFTSettings = SFTSettings(batch_size=64)  # paper: batch 64
    learning_rates: dict[str, float] = {}
    """A student's own peak learning rate, where it differs from `sft.learning_rate`."""
    method: DistillMethod = SFT
    """`sft`: on the teacher's rows (the paper). `on_policy`: on samples of its own, of which the teacher, the last rung
    of the ladder, gives the probability of every token. `sft_then_on_policy`: the second after the first."""
    on_policy: OnPolicySettings | None = None
    compare: dict[str, Annotated[list[DistillMethod], Field(min_length=1)]] = {}
    """Student -> further methods that it is distilled by as well, each a rung of its own, for the comparison."""

    @property
    def methods(self) -> set[DistillMethod]:
        """All that are used."""
        return {self.method, *(method for methods in self.compare.values() for method in methods)}

    @model_validator(mode="after")
    def _methods_have_settings(self) -> "DistillStage":
        for student, methods in self.compare.items():
            if len({self.method, *methods}) <= len(methods):
                raise ValueError(
                    f"compare.{student} is {', '.join(methods)}, beside method {self.method}; name each method once, "
                    "and not the one that every student is distilled by"
                )
        if self.methods != {SFT} and self.on_policy is None:
            raise ValueError(
                "on_policy is missing: method or compare distils students on samples of their own. Give the section "
                "with its questions, grpo and rewards, or use method: sft"
            )
        both = BOTH in self.methods
        if both and self.on_policy.budget.is_open and self.on_policy.sft_epochs >= self.sft.epochs:
            raise ValueError(
                f"on_policy.sft_epochs is {self.on_policy.sft_epochs} and sft.epochs {self.sft.epochs}, so that "
                "sft_then_on_policy leaves no tokens for samples. Lower sft_epochs, raise sft.epochs, or set "
                "on_policy.budget"
            )
        return self


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
    def policies(self) -> dict[str, RLStage]:
        """Key -> every section that trains a policy on its own samples: the RL stages, and on-policy distillation."""
        found: dict[str, RLStage] = dict(self.of(RLStage))
        return found | {f"{name}.on_policy": getattr(self, name).on_policy for name in self.taught}

    @property
    def taught(self) -> frozenset[str]:
        """The stages that distil on-policy."""
        return frozenset(name for name, section in self.of(DistillStage).items() if section.methods != {SFT})

    @property
    def compared(self) -> dict[str, list[DistillMethod]]:
        """Student -> the methods that it is distilled by besides that of all students."""
        return {student: list(m) for s in self.of(DistillStage).values() for student, m in s.compare.items()}

    @property
    def measured(self) -> tuple[dict[str, str], dict[str, str], dict[str, list[DistillMethod]]]:
        """What decides which checkpoints are measured, as `pipeline.ladder.rungs` takes it."""
        return self.base_model.students, self.chosen_students, self.compared

    @property
    def chosen_students(self) -> dict[str, str]:
        """Stage id -> the student it trains, for the stages that train one."""
        return {name: section.student for name, section in self.of(StudentRLStage).items()}
