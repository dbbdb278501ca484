"""Every checkpoint on the held-out sets: the paper's Tables 3, 15 and 16.

    make evaluate PROFILE=pocket

Gives `results.json` (rung -> set -> figures, with the settings) and each judged sample in `samples/`.
"""

import json

from pipeline.core.files import write_json_lines
from pipeline.ladder import rungs
from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.evaluation import judged_rows, score_samples, settings_in_words, summarise
from pipeline.steps.questions import PROMPTS, evaluation_questions, fitting_prompts, require_sandbox
from pipeline.steps.sampling import SHARDS, sample_in_shards


def run(ctx: StageContext) -> StageResult:
    questions = {name: evaluation_questions(ctx.profile, name) for name in ctx.config.sets}
    if any(question.verifier == "code" for rows in questions.values() for question in rows):
        require_sandbox(ctx.profile.allow_weak_sandbox)
    settings = {name: settings_in_words(ctx.config, name, len(rows)) for name, rows in questions.items()}
    for name, words in settings.items():
        ctx.log.info("%s: %s", name, words)
    (ctx.folder / "samples").mkdir(exist_ok=True)
    weak = ctx.profile.allow_weak_sandbox
    results: dict[str, dict] = {}
    sampled = 0
    for rung in rungs(*ctx.profile.stages.measured):
        engine = ctx.serve(ctx.inputs[rung.stage.id].folder / rung.checkpoint, seed=ctx.config.seed)
        template = rung.stage.template
        results[rung.name] = {}
        for name, chosen in ctx.config.sets.items():
            asked, prompts = fitting_prompts(
                ctx, questions[name], engine.tokenizer, template, ctx.config.sampling.max_tokens,
                f"{PROMPTS}: {name} for {rung.name}",
            )  # fmt: skip
            groups = [
                group
                for _, group in sample_in_shards(
                    ctx,
                    f"{rung.name}-{name}",
                    asked,
                    prompts,
                    chosen.samples,
                    ctx.config.sampling,
                    seed=ctx.config.seed,
                )
            ]
            scored = score_samples(asked, groups, chosen.metric, template, weak)
            figures = summarise(scored, ctx.config.consensus)
            sampled += sum(sample.tokens for group in scored for sample in group)
            write_json_lines(ctx.folder / "samples" / f"{rung.name}-{name}.jsonl", judged_rows(asked, scored))
            results[rung.name][name] = figures
            ctx.log.info(
                "%s on %s: pass@1 %.1f %% [%.1f, %.1f], %.1f %% cut",
                rung.name, name, 100 * figures["pass@1"], 100 * figures["low"], 100 * figures["high"],
                100 * figures["truncated"],
            )  # fmt: skip
    used = {
        "sampling": ctx.config.sampling.model_dump(),
        "seed": ctx.config.seed,
        "context": ctx.profile.engine.max_model_len,
        "sets": settings,
    }
    text = json.dumps({"settings": used, "results": results}, indent=1)
    (ctx.folder / "results.json").write_text(text + "\n", encoding="utf-8")
    return StageResult(
        outputs=["results.json", "samples"], metrics=results, tokens={"sampled": sampled}, scratch=[SHARDS]
    )
