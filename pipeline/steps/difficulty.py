"""Find the questions that a policy solves sometimes, which RL learns from."""

import json
from collections.abc import Sequence

from data_recipes.cleaning.answers import WITHOUT_ANSWER
from data_recipes.cleaning.funnel import QuestionFunnel
from data_recipes.question import Question
from pipeline.config.policy import Difficulty
from pipeline.core.errors import RunError
from pipeline.core.files import read_json_lines, write_json_lines
from pipeline.engines import Sampling
from pipeline.steps.context import StageContext
from pipeline.steps.questions import FUNNELS, note_funnel, render_prompts
from pipeline.steps.sampling import sample_in_shards
from rewards import Verdict, judge_answers

KEPT = "questions.jsonl"
STEP = "difficulty"


def sometimes_solved(
    ctx: StageContext, tokenizer, questions: Sequence[Question], template: str
) -> tuple[list[Question], int]:
    """(questions within the stage's `difficulty` window, tokens sampled to find out).

    Each is sampled k times from the policy that `ctx.serve` opened last, in shards, so that a resumed run continues;
    its share of right answers becomes its `pass_rate`. Questions without an answer to check are kept, with `pass_rate`
    None. The kept rows are written to `questions.jsonl`, from which a resumed run reads them; the others are in the
    funnel.
    Raises RunError where none is left.
    """
    path = ctx.folder / KEPT
    if path.is_file():
        tokens = json.loads((ctx.folder / FUNNELS).read_text(encoding="utf-8"))[STEP]["sampled_tokens"]
        return [Question.model_validate(row) for _, row in read_json_lines(path)], tokens
    settings, grpo = ctx.config.difficulty, ctx.config.grpo
    checked = [row for row in questions if can_be_judged(row)]
    limit = grpo.completion_limit(0)
    prompts = render_prompts(ctx.profile, checked, tokenizer, template, limit)
    sampling = Sampling(temperature=grpo.temperature, max_tokens=limit)
    rates, tokens = {}, 0
    for question, completions in sample_in_shards(
        ctx, STEP, checked, prompts, settings.samples, sampling, settings.shard_questions
    ):
        texts, columns = [c.text for c in completions], question.columns()
        verdicts = judge_answers(texts, [columns] * len(texts), ctx.profile.allow_weak_sandbox)
        rates[question.id] = pass_rate(verdicts)
        tokens += sum(len(c.token_ids) for c in completions)
    kept, funnel = _within(questions, rates, settings)
    if not kept:
        raise RunError(
            f"{ctx.stage_id}: the policy solves none of {len(questions)} questions sometimes ({funnel}). Widen "
            f"stages.{ctx.key}.difficulty ({settings.min_pass_rate} to {settings.max_pass_rate}), take easier or "
            "harder questions, or train from a checkpoint that can solve some."
        )
    note_funnel(ctx, STEP, funnel, sampled_tokens=tokens)
    write_json_lines(path, [row.columns() for row in kept])
    return kept, tokens


def _within(
    questions: Sequence[Question], rates: dict[str, float | None], settings: Difficulty
) -> tuple[list[Question], QuestionFunnel]:
    funnel, kept = QuestionFunnel(rows_in=len(questions)), []
    for question in questions:
        rate = rates.get(question.id)
        if question.id in rates and rate is None:
            funnel.drop("unjudged", question.question)
        elif rate is not None and rate < settings.min_pass_rate:
            funnel.drop("too_hard", f"{rate:.0%}: {question.question}")
        elif rate is not None and rate > settings.max_pass_rate:
            funnel.drop("too_easy", f"{rate:.0%}: {question.question}")
        else:
            kept.append(question.model_copy(update={"pass_rate": rate}))
    funnel.rows_out = len(kept)
    return kept, funnel


def can_be_judged(row: Question) -> bool:
    """Whether the row's verifier could tell a right answer: some need no gold one."""
    return row.verifier in WITHOUT_ANSWER or (row.verifier != "none" and row.answer is not None)


def pass_rate(verdicts: Sequence[Verdict]) -> float | None:
    """Share of right answers among those that could be judged, 0..1; None where none could."""
    judged = [verdict for verdict in verdicts if verdict.score is not None]
    return sum(verdict is Verdict.CORRECT for verdict in judged) / len(judged) if judged else None
