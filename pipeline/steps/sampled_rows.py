"""From a policy's samples to training rows: judged, filtered, every drop recorded with its reason."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from data_recipes.cleaning.filters import reason_to_drop
from data_recipes.question import Question
from pipeline.config.stages import SampledData
from pipeline.core.files import write_json_lines
from pipeline.steps.context import StageContext
from pipeline.steps.difficulty import pass_rate
from pipeline.steps.questions import render_prompts, training_questions
from pipeline.steps.sampling import sample_in_shards
from rewards import judge_answers

Rewrite = Callable[[Question, str], str | None]


@dataclass
class Funnel:
    """How many samples went in, how many came out, and why the others did not."""

    questions: int = 0
    samples: int = 0
    sampled_tokens: int = 0
    dropped: Counter = field(default_factory=Counter)
    kept: int = 0

    def as_metrics(self) -> dict:
        return {
            "questions": self.questions,
            "samples": self.samples,
            "dropped": dict(self.dropped.most_common()),
            "rows": self.kept,
        }


def collect_rows(ctx: StageContext, rewrite: Rewrite | None = None) -> tuple[list[dict], list[dict], Funnel]:
    """(rows, dropped samples, funnel) from samples of the checkpoint that the stage starts from.

    A row is the question's columns and `response`. At most `keep_per_question` samples of a question are kept,
    different ones, and `max_rows` rows in all. A rewritten answer is checked again, as R1's format.
    """
    settings: SampledData = ctx.config
    engine, template = ctx.serve(ctx.start()), ctx.stage.template
    questions = training_questions(ctx, settings.questions)
    prompts = render_prompts(ctx.profile, questions, engine.tokenizer, template, settings.sampling.max_tokens)
    funnel, rows, dropped = Funnel(questions=len(questions)), [], []
    samples = sample_in_shards(
        ctx, "samples", questions, prompts, settings.samples_per_question, settings.sampling,
        settings.shard_questions,
    )  # fmt: skip
    for question, completions in samples:
        columns = question.columns()
        texts = [c.text for c in completions]
        verdicts = judge_answers(texts, [columns] * len(texts), ctx.profile.allow_weak_sandbox)
        columns["pass_rate"] = pass_rate(verdicts)
        kept: list[str] = []
        for number, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True)):
            funnel.samples += 1
            funnel.sampled_tokens += len(completion.token_ids)
            text, language = completion.text.strip(), question.language
            reason = reason_to_drop(text, completion.finish_reason, language, verdict, settings.filters)
            if not reason and rewrite is not None:
                text, reason = _rewritten(question, text, rewrite, settings, ctx.profile.allow_weak_sandbox)
            if not reason:
                reason = _over_quota(text, kept, settings, len(rows))
            if reason:
                funnel.dropped[reason] += 1
                dropped.append(
                    {"question_id": question.id, "sample": number, "reason": reason, "text": completion.text}
                )
                continue
            kept.append(text)
            rows.append({**columns, "response": text, "source": ctx.stage_id, "sample": number})
    funnel.kept = len(rows)
    return rows, dropped, funnel


def _rewritten(
    question: Question, text: str, rewrite: Rewrite, settings: SampledData, allow_weak_sandbox: bool
) -> tuple[str, str]:
    """(the rewritten text, '') or (the text, the reason why the rewriting is no good)."""
    rewritten = rewrite(question, text)
    if rewritten is None:
        return text, "not_rewritable"
    [verdict] = judge_answers([rewritten], [question.columns()], allow_weak_sandbox)
    rules = settings.filters.model_copy(update={"format": "r1", "min_language_share": 1.0})
    reason = reason_to_drop(rewritten, "stop", question.language, verdict, rules)
    return rewritten, f"rewriting: {reason}" if reason else ""


def _over_quota(text: str, kept: list[str], settings: SampledData, rows: int) -> str:
    if text in kept:
        return "duplicate"
    if len(kept) >= settings.keep_per_question:
        return "enough_of_this_question"
    if settings.max_rows is not None and rows >= settings.max_rows:
        return "enough_rows"
    return ""


def write_rows(ctx: StageContext, rows: list[dict], dropped: list[dict], funnel: Funnel) -> None:
    """Writes `rows.jsonl` and `dropped.jsonl` and says what became of the samples."""
    write_json_lines(ctx.folder / "rows.jsonl", rows)
    write_json_lines(ctx.folder / "dropped.jsonl", dropped)
    reasons = ", ".join(f"{reason} {count}" for reason, count in funnel.dropped.most_common()) or "none"
    ctx.log.info("%d samples of %d questions: %d rows kept; dropped: %s",
                 funnel.samples, funnel.questions, funnel.kept, reasons)  # fmt: skip
