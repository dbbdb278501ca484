"""The reward models: a helpful and a harmless scorer, trained on preference pairs of Dev3's own answers.

    make reward-model PROFILE=pocket

Gives `helpful/` and `harmless/` (sequence-classification checkpoints), `pairs-<scorer>.jsonl`, and in `dropped.jsonl`
each pair, question and judgement that is not used with the reason.
"""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from data_recipes.written.annotators import make_annotator
from data_recipes.written.preferences import Pair, balance_lengths, split_by_question
from pipeline.core.errors import RunError
from pipeline.core.files import write_json_lines
from pipeline.core.tokens import answer_ids, load_tokenizer
from pipeline.steps.annotation import ANSWERS, judged_pairs
from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.questions import PROMPTS, fitting_prompts, training_questions
from pipeline.steps.sampling import SHARDS, sample_in_shards
from pipeline.training.reward_model import RewardModelResult, train_reward_model, trainer_folder
from rewards import reward_model_text

HELD_BACK_SHARE = 0.1
"""Share of the pairs that the scorer's accuracy is measured on: those of questions that it does not train on."""


def run(ctx: StageContext) -> StageResult:
    policy = ctx.start()
    dropped_rows, metrics, tokens = [], {}, {}
    for name, settings in ctx.config.scorers.items():
        tokenizer = ctx.serve(policy).tokenizer
        rng = ctx.rng(f"pairs {name}")
        annotator = make_annotator(ctx.config, name, rng)
        questions = training_questions(ctx, {settings.group: settings.prompts})
        questions, prompts = fitting_prompts(
            ctx, questions, tokenizer, ctx.stage.template, ctx.config.sampling.max_tokens, f"{PROMPTS} of {name}"
        )
        prompt_of = {question.question: prompt for question, prompt in zip(questions, prompts, strict=True)}
        samples = sample_in_shards(ctx, name, questions, prompts, settings.samples_per_prompt, ctx.config.sampling)
        pairs, dropped, unfinished = judged_pairs(ctx, name, settings, annotator, samples, rng)
        pairs, unbalanced = balance_lengths(
            pairs, lambda text, tokenizer=tokenizer: len(answer_ids(tokenizer, text)), rng
        )
        dropped += unbalanced
        dropped_rows += [{"scorer": name, **rejected.row()} for rejected in dropped]
        dropped_rows += [{"scorer": name, "question": question, "reason": "unfinished"} for question in unfinished]
        dropped_rows += [{"scorer": name, **unscored} for unscored in annotator.unscored]
        write_json_lines(ctx.folder / "dropped.jsonl", dropped_rows)
        reasons = Counter(row["reason"] for row in dropped_rows if row["scorer"] == name)
        if not pairs:
            raise RunError(
                f"{name}: no preference pair was left of {len(questions)} prompts ({_in_words(reasons)}); see "
                f"{ctx.folder / 'dropped.jsonl'}."
            )
        rng.shuffle(pairs)
        write_json_lines(ctx.folder / f"pairs-{name}.jsonl", map(asdict, pairs))
        texts, held_back = (
            [_texts(pair, prompt_of[pair.question], settings.part, tokenizer) for pair in some]
            for some in split_by_question(pairs, HELD_BACK_SHARE)
        )
        result = ctx.together(train_scorer, name=name, policy=policy, texts=texts, held_back=held_back)
        ctx.log.info("%s: %d pairs, accuracy on held-back pairs %s; not used: %s",
                     name, result.pairs, result.accuracy, _in_words(reasons))  # fmt: skip
        metrics[name] = {"pairs": result.pairs, "dropped": len(dropped), "accuracy": result.accuracy}
        if annotator.unscored:
            metrics[name]["unscored"] = dict(Counter(unscored["reason"] for unscored in annotator.unscored))
        tokens[name] = result.tokens
    annotations = [ANSWERS.format(name=name) for name in ctx.config.scorers]
    scratch = [SHARDS, *annotations, *(trainer_folder(Path(name)).name for name in ctx.config.scorers)]
    return StageResult(outputs=list(ctx.config.scorers), metrics=metrics, tokens=tokens, scratch=scratch)


def _in_words(reasons: Counter) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "none"


def _texts(pair: Pair, prompt: str, part: str, tokenizer) -> tuple[str, str]:
    """(chosen, rejected) as the scorer reads them."""
    return (
        reward_model_text(prompt, pair.chosen, part, tokenizer),
        reward_model_text(prompt, pair.rejected, part, tokenizer),
    )


def train_scorer(
    ctx: StageContext, name: str, policy: Path, texts: list[tuple[str, str]], held_back: list[tuple[str, str]]
) -> RewardModelResult:
    """Trains on (chosen, rejected) `texts` and measures on those held back. In every process of the run."""
    if ctx.device != "cpu":
        ctx.engines.close()  # its weights and cache take GPU memory that training needs
    with ctx.progress(f"training {name}", None) as bar:

        def on_step(step: int, steps: int, figures: dict) -> None:
            bar.total = steps
            bar.update(step, loss=figures["loss"])

        return train_reward_model(
            model_path=policy,
            tokenizer=load_tokenizer(policy),
            pairs=texts,
            held_back=held_back,
            settings=ctx.config,
            output=ctx.folder / name,
            seed=ctx.seed,
            device=ctx.device,
            dtype=ctx.profile.dtype,
            on_step=on_step,
            nonfinite_steps=ctx.profile.watchdog.nonfinite_steps,
            parallel=ctx.profile.parallel,
        )
