"""Settings of questions and data: sources, cleaning, filters, rewriting, preference pairs, templates."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.kinds import OneOfKinds
from pipeline.core.strict import Strict

NGRAM_WORDS = 10
"""The paper's length (DeepSeek-R1, evaluation: 10-gram matches in questions or solutions)."""
REPEATED_NGRAM_WORDS = 8


BENCHMARK_SAMPLES = {
    "aime_2024": 64,
    "aime_2025": 64,  # not in the paper, which came before it: as AIME 2024
    "math_500": 16,
    "gsm8k": 4,  # not in the paper; 1,319 questions need few samples each
    "gpqa_diamond": 64,
    "humaneval": 8,  # not in the paper: k as for its LiveCodeBench
}
"""Samples a question, k, of each `benchmark:NAME`: the paper's where it has one (DeepSeek-R1, evaluation setup)."""


def default_samples(use: str) -> int | None:
    """k of a `benchmark:NAME`, None for any other source."""
    scheme, _, name = use.partition(":")
    return BENCHMARK_SAMPLES.get(name) if scheme == "benchmark" else None


@dataclass(frozen=True)
class Source:
    """One source of a group, as the profile has it."""

    use: str
    args: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    upsample: bool = False
    domain: str | None = None
    """Domain of all its questions, in place of their own."""
    group: str | None = None
    """The group's name: the domain of questions that have none of their own."""


QuestionCount = Annotated[int, Field(ge=1, le=1_000_000)]
"""A recipe that makes its questions would go on for days for a number with too many zeros."""


class QuestionSource(Strict):
    """Where questions come from: a recipe by name (`pocket_arithmetic`, `countdown`), a file (`jsonl:data/math.jsonl`,
    `csv:…`, `parquet:…`), a data set on the Hub (`hub:openai/gsm8k`), a named evaluation set (`benchmark:aime_2024`) or
    a reasoning-gym task (`reasoning_gym:chain_sum`)."""

    use: str
    args: dict[str, Any] = {}
    """Arguments of the recipe or task; of a file or data set its column mapping
    (`data_recipes.sources.mapping.RowMapping`)."""
    weight: float = Field(1.0, gt=0)
    """Share of this source among the sources of its group."""
    upsample: bool = False
    """Whether a file or data set with fewer questions than its share repeats them; else the other sources give more."""
    domain: str | None = Field(None, min_length=1)
    """Domain of all its questions, which rewards go by, in place of their own. Questions that have none get the name
    of their group."""

    @classmethod
    def replaced(cls, below: dict, above: dict) -> dict[str, str]:
        """Arguments belong to a kind of source: one of another kind in its place does not take them over."""
        before, now = below.get("use"), above.get("use")
        if "args" not in below or not isinstance(before, str) or not isinstance(now, str):
            return {}
        same_kind = _reads_args_as(before) == _reads_args_as(now)
        return {} if same_kind else {"args": f"use: {now} is another kind of source"}

    def in_group(self, group: str | None) -> Source:
        return Source(self.use, self.args, self.weight, self.upsample, self.domain, group)


def _reads_args_as(use: str) -> str:
    """Sources with the same value here take the same arguments."""
    scheme, colon, _ = use.partition(":")
    if not colon or scheme == "reasoning_gym":
        return use
    return "file" if scheme in ("jsonl", "csv", "parquet") else scheme


class Cleaning(Strict):
    """What is taken out of the questions before any stage trains on them."""

    duplicates: Literal["keep", "exact", "near"] = "exact"
    """In files and data sets: keep them; take out questions of the same words; or those that are nearly the same too.
    Sums that differ in one number are nearly the same, so `near` is for questions in words."""
    near_similarity: float = Field(0.8, ge=0.5, le=1)
    """Share of 3-grams of words that two questions must have in common to be nearly the same (Jaccard)."""
    overlap_words: int = Field(NGRAM_WORDS, ge=3)
    """Words in a row, in a question or its reference response, that may not be those of a held-out question or its
    solution."""
    also_held_out: dict[str, QuestionSource] = {}
    """Sets that training must not overlap with, beside those of `stages.evaluate.sets`, by a name of yours."""


Figure = Literal["pass@1", "format", "language_consistency"]
"""Figures of an evaluation by which one checkpoint can be better than another: shares, the higher the better."""


class Heldout(Strict):
    """Held-out evaluation while an RL stage trains, for its curve, and to choose the checkpoint that it hands on."""

    LATER: ClassVar[frozenset[str]] = frozenset({"keep_best", "best_by", "best_from"})

    set: str
    """The name of one of `stages.evaluate.sets`."""
    every: int = Field(100, ge=1)
    """Optimizer steps between two points of the curve."""
    questions: int = Field(64, ge=1, le=100_000)
    samples: int = Field(4, ge=1)
    keep_best: bool = False
    """Whether the stage hands on the weights of the best point of the curve instead of the last. The curve's questions
    are then others of the set's source than those that `evaluate` asks, and the last step is a point too."""
    best_by: dict[Figure, Annotated[float, Field(gt=0)]] = Field({"pass@1": 1.0}, min_length=1)
    """What is best: the figures whose weighted sum is compared; of equal ones the later."""
    best_from: int = Field(0, ge=0)
    """First step that may be handed on, such as the one from which a scheduled reward has counted for a while."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_chosen_without_it(cls, data: Any) -> Any:
        """With `keep_best` off what it goes by is nothing, wherever a parent of the profile has set it."""
        if not isinstance(data, dict) or data.get("keep_best"):
            return data
        return {key: value for key, value in data.items() if key not in ("best_by", "best_from")}


def _one_question(text: str) -> str:
    if text.count("{question}") != 1:
        raise ValueError(f"the template {text!r} should hold {{question}} exactly once")
    return text


Template = Annotated[str, AfterValidator(_one_question)]
"""A text with `{question}` in one place."""


class Templates(Strict):
    r1_zero: Template | None = None
    """The plain-text prompt of base models and R1-Zero, with `{question}`; null is the paper's."""


class PreferenceSettings(Strict):
    """Pairs for one reward model: answers sampled from the SFT model, judged by an annotator."""

    group: str
    prompts: int = Field(ge=1)
    samples_per_prompt: int = Field(4, ge=2)
    judgements: int = Field(4, ge=1)  # paper: judged four times in random order
    min_gap: float = 1.0  # paper: kept when the gap is over 1
    part: Literal["summary", "whole"]
    """What the scorer reads: the paper's helpful model the summary, its safety model the whole response."""


class FilterSettings(Strict):
    """What an answer must be to be kept. Every drop is recorded with its reason."""

    format: Literal["r1_zero", "r1"] = "r1_zero"
    """`<think>…</think><answer>…</answer>`, or R1's `<think>…</think>` and a summary."""
    correct: bool = True
    min_language_share: float | None = Field(0.99, ge=0, le=1)
    """Share of the chain of thought's words that must be in the question's language; null keeps mixed language."""
    max_repetition: float = Field(0.3, ge=0, le=1)
    """Largest share of repeated 8-grams of words in the chain of thought."""
    min_thinking_words: int = Field(0, ge=0)
    max_paragraph_words: int = Field(400, ge=1)
    allow_code: bool = False
    """Whether code blocks may stand in the chain of thought."""


class Asking(Strict):
    """How a server is asked. Does not affect results, so it may be changed in the middle of a stage."""

    concurrency: int = Field(16, ge=1)
    """Requests under way at a time."""
    timeout_s: float = Field(600.0, gt=0)
    """Longest wait for one answer, its reasoning included."""


class EndpointKeys(Strict):
    """An OpenAI-compatible server; its key is read from OPENAI_API_KEY."""

    url: str
    """Its base address, as http://host:8000/v1."""
    model: str


class RewriterSettings(OneOfKinds):
    """Who rewrites chains of thought for readers."""

    once_of_all: ClassVar[dict[str, Any]] = {"url": None, "model": None, "temperature": 0.0, "max_tokens": 4096}


class NoRewriterSettings(RewriterSettings):
    """Only the shape changes."""

    kind: Literal["none"] = "none"


class PocketRewriterSettings(RewriterSettings):
    """By rule, for the pocket world."""

    kind: Literal["pocket"] = "pocket"


class EndpointRewriterSettings(RewriterSettings, EndpointKeys):
    kind: Literal["endpoint"] = "endpoint"
    temperature: float = 0.0
    max_tokens: int = 4096
    """Longest rewritten answer, in the server's tokens, with what a model that thinks writes before it."""
    asking: Asking = Field(Asking(), exclude=True)


AnyRewriter = RewriterSettings.any_kind()
"""The type of a stage's `rewriter`."""


class AnnotatorSettings(OneOfKinds):
    """Who says which of two answers is better."""


class EndpointAnnotatorSettings(AnnotatorSettings, EndpointKeys):
    kind: Literal["endpoint"] = "endpoint"


class PocketAnnotatorSettings(AnnotatorSettings):
    """The pocket world's noisy annotators."""

    kind: Literal["pocket"] = "pocket"


AnyAnnotator = AnnotatorSettings.any_kind()
"""The type of a reward-model stage's `annotator`."""
