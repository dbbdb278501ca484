"""Make training rows of a policy's samples: judged and filtered, every drop recorded with its reason."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from data_recipes.cleaning.filters import reason_to_drop
from data_recipes.question import Question
from data_recipes.written.rewriting import EndpointRewriter, Rewriter, rewritten
from pipeline.config.stages import SampledData
from pipeline.core.files import write_json_lines
from pipeline.core.watchdog import phase
from pipeline.engines import Completion
from pipeline.steps.annotation import count_on
from pipeline.steps.context import StageContext
from pipeline.steps.difficulty import pass_rate
from pipeline.steps.questions import fitting_prompts, training_questions
from pipeline.steps.sampling import sample_in_shards
from rewards import judge_answers

REWRITTEN = "rewritten.jsonl"
"""The rewriting server's answers so far, which an interrupted run continues from."""


@dataclass
class Funnel:
    """How many samples went in, how many came out, and why the others did not."""

    questions: int = 0
    samples: int = 0
    sampled_tokens: int = 0
    dropped: Counter = field(default_factory=Counter)
    kept: int = 0
    languages: Counter = field(default_factory=Counter)
    """Rows kept, by their question's language."""

    def as_metrics(self) -> dict:
        return {
            "questions": self.questions,
            "samples": self.samples,
            "dropped": dict(self.dropped.most_common()),
            "rows": self.kept,
            "languages": dict(self.languages.most_common()),
        }


def collect_rows(ctx: StageContext, rewriter: Rewriter | None = None) -> tuple[list[dict], list[dict], Funnel]:
    """(rows, dropped samples, funnel) from samples of the checkpoint that the stage starts from.

    A row is the question's columns and `response`. At most `keep_per_question` samples of a question are kept,
    different ones, and `max_rows` rows in all, of each language its share where the stage gives `languages`: when these
    are there, no more is sampled. A rewritten answer is checked again, as R1's format.
    """
    settings: SampledData = ctx.config
    engine, template = ctx.serve(ctx.start()), ctx.stage.template
    questions = training_questions(ctx, settings.questions)
    questions, prompts = fitting_prompts(ctx, questions, engine.tokenizer, template, settings.sampling.max_tokens)
    funnel, rows, dropped = Funnel(questions=len(questions)), [], []
    samples = sample_in_shards(
        ctx, "samples", questions, prompts, settings.samples_per_question, settings.sampling,
        settings.shard_questions,
    )  # fmt: skip
    quotas = settings.language_quotas
    while settings.max_rows is None or len(rows) < settings.max_rows:
        shard = [
            _judged(ctx, question, found, settings) for question, found in islice(samples, settings.shard_questions)
        ]
        if not shard:
            break
        if rewriter is not None:
            wanted = [judged for judged in shard if not _language_full(judged.question, quotas, funnel)]
            _rewrite(ctx, wanted, rewriter, settings)
        for judged in shard:
            _sort_out(ctx, judged, settings, quotas, rows, dropped, funnel)
    funnel.kept = len(rows)
    _tell_of_short_languages(ctx, quotas, funnel)
    return rows, dropped, funnel


def _tell_of_short_languages(ctx: StageContext, quotas: dict[str, int] | None, funnel: Funnel) -> None:
    short = [
        f"'{language}' {funnel.languages[language]} of {quota}"
        for language, quota in (quotas or {}).items()
        if funnel.languages[language] < quota
    ]
    if short:
        ctx.log.warning(
            "%s: the questions ended before every language had its share of rows: %s. Give more questions or samples "
            "(stages.%s.questions, samples_per_question), or see in dropped.jsonl why answers in it are dropped.",
            ctx.stage_id, ", ".join(short), ctx.stage_id,
        )  # fmt: skip


@dataclass
class _Judged:
    """The samples of one question. `texts` and `reasons` ('' keeps a sample) change when they are rewritten."""

    question: Question
    completions: list[Completion]
    pass_rate: float | None
    texts: list[str]
    reasons: list[str]

    def good(self) -> list[int]:
        return [number for number, reason in enumerate(self.reasons) if not reason]


def _judged(ctx: StageContext, question: Question, completions: list[Completion], settings: SampledData) -> _Judged:
    columns = question.columns()
    verdicts = judge_answers(
        [c.text for c in completions], [columns] * len(completions), ctx.profile.allow_weak_sandbox
    )
    texts = [completion.text.strip() for completion in completions]
    reasons = [
        reason_to_drop(text, completion.finish_reason, question.language, verdict, settings.filters)
        for text, completion, verdict in zip(texts, completions, verdicts, strict=True)
    ]
    return _Judged(question, completions, pass_rate(verdicts), texts, reasons)


def _rewrite(ctx: StageContext, shard: list[_Judged], rewriter: Rewriter, settings: SampledData) -> None:
    """Rewrites the good samples. A server gets no more samples of a question than are kept."""
    asks = isinstance(rewriter, EndpointRewriter)
    waiting = [(judged, judged.good()) for judged in shard]
    while some := [(judged, numbers.pop(0)) for judged, numbers in waiting if numbers]:
        if asks:
            with phase("rewriting"), ctx.progress("rewriting", len(some)) as bar:
                requests = [(judged.question, judged.texts[number]) for judged, number in some]
                rewriter.prepare(requests, ctx.folder / REWRITTEN, count_on(bar))
        for judged, number in some:
            text, reason = rewritten(rewriter, judged.question, judged.texts[number])
            judged.reasons[number] = _fault_of_rewritten(ctx, judged.question, text, settings) if text else reason
            judged.texts[number] = text or judged.texts[number]
        for judged, numbers in waiting:
            done = {judged.texts[number] for number in judged.good() if number not in numbers}
            if asks and len(done) >= settings.keep_per_question:
                for number in numbers:
                    judged.reasons[number] = "enough_of_this_question"
                numbers.clear()


def _fault_of_rewritten(ctx: StageContext, question: Question, text: str, settings: SampledData) -> str:
    """Why the rewritten text is rejected; '' if it is accepted."""
    [verdict] = judge_answers([text], [question.columns()], ctx.profile.allow_weak_sandbox)
    rules = settings.filters.model_copy(update={"format": "r1", "min_language_share": 1.0})
    reason = reason_to_drop(text, "stop", question.language, verdict, rules)
    return f"rewriting: {reason}" if reason else ""


def _sort_out(
    ctx: StageContext, judged: _Judged, settings: SampledData, quotas: dict[str, int] | None,
    rows: list[dict], dropped: list[dict], funnel: Funnel,
) -> None:  # fmt: skip
    """Adds each sample to the rows or to the dropped ones."""
    kept: list[str] = []
    question = judged.question
    columns = {**question.columns(), "pass_rate": judged.pass_rate}
    for number, completion in enumerate(judged.completions):
        text = judged.texts[number]
        funnel.samples += 1
        funnel.sampled_tokens += len(completion.token_ids)
        full = _language_full(question, quotas, funnel)
        if reason := judged.reasons[number] or _over_quota(text, kept, settings, len(rows), full):
            funnel.dropped[reason] += 1
            dropped.append({"question_id": question.id, "sample": number, "reason": reason, "text": completion.text})
        else:
            kept.append(text)
            funnel.languages[question.language] += 1
            rows.append({**columns, "response": text, "source": ctx.stage_id, "sample": number})


def _language_full(question: Question, quotas: dict[str, int] | None, funnel: Funnel) -> bool:
    """Whether the question's language has its share of rows already."""
    return quotas is not None and funnel.languages[question.language] >= quotas.get(question.language, 0)


def _over_quota(text: str, kept: list[str], settings: SampledData, rows: int, language_full: bool) -> str:
    if text in kept:
        return "duplicate"
    if len(kept) >= settings.keep_per_question:
        return "enough_of_this_question"
    if settings.max_rows is not None and rows >= settings.max_rows:
        return "enough_rows"
    if language_full:
        return "enough_of_this_language"
    return ""


def write_rows(ctx: StageContext, rows: list[dict], dropped: list[dict], funnel: Funnel) -> None:
    """Write `rows.jsonl` and `dropped.jsonl`, and log the counts."""
    write_json_lines(ctx.folder / "rows.jsonl", rows)
    write_json_lines(ctx.folder / "dropped.jsonl", dropped)
    reasons = ", ".join(f"{reason} {count}" for reason, count in funnel.dropped.most_common()) or "none"
    ctx.log.info("%d samples of %d questions: %d rows kept; dropped: %s",
                 funnel.samples, funnel.questions, funnel.kept, reasons)  # fmt: skip
