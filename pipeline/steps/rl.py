"""What the RL stages share: questions, rewards, held-out evaluation on the way, and the GRPO run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_recipes.question import Question
from pipeline.config.data import Heldout
from pipeline.config.policy import Budget
from pipeline.config.profile import NOTHING_TO_CHOOSE_BY
from pipeline.core.console import shown_columns
from pipeline.core.errors import RunError
from pipeline.core.files import read_json_lines, write_json_lines
from pipeline.core.watchdog import phase
from pipeline.engines import Completion
from pipeline.models.config_file import has_experts
from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.difficulty import sometimes_solved
from pipeline.steps.evaluation import judged_rows, score_samples, summarise
from pipeline.steps.questions import (
    FUNNELS,
    PROMPTS,
    evaluation_questions,
    fitting_prompts,
    render_prompts,
    selection_questions,
    training_questions,
)
from pipeline.steps.rewarded import JudgedWatch, check_rewards_apply
from pipeline.steps.sampling import SHARDS
from pipeline.steps.step_table import StepTable
from pipeline.steps.trackers import Trackers
from pipeline.training.alarms import find_alarms
from pipeline.training.best import BEST
from pipeline.training.grpo.run import GRPOResult, train_grpo
from pipeline.training.records import METRICS
from pipeline.training.teacher import Teaching
from rewards import RewardContext, RewardError, RewardSet, RewardSpec
from rewards.builtin.reward_model import RewardModel

HELDOUT, ALARMS = "heldout.jsonl", "alarms.jsonl"
NO_BUDGET = Budget()


def train_by_rl(ctx: StageContext, budget: Budget = NO_BUDGET) -> StageResult:
    """GRPO with the stage's own settings, from the checkpoint and with the prompts that the ladder names.

    Ends early once the `budget` is spent. Gives `checkpoint/`, `metrics.jsonl`, `rollouts/` and, where the profile asks
    for held-out evaluation, `heldout.jsonl`.
    """
    result, tried = train_policy(ctx, ctx.start(), budget)
    return StageResult(
        outputs=["checkpoint"],
        metrics=policy_metrics(ctx, result),
        tokens={
            "sampled": result.tokens_generated,
            "trained": result.tokens_trained,
            "seen": result.tokens_seen,
            **({"difficulty": tried} if ctx.config.difficulty else {}),
        },
        scratch=["trainer", SHARDS, BEST],
    )


def policy_metrics(ctx: StageContext, result: GRPOResult) -> dict[str, Any]:
    """What a stage notes of a policy that was trained in the context's folder."""
    return {
        **result.metrics,
        "steps": result.steps,
        "verdicts": result.verdicts,
        "alarms": _before(ctx.folder / ALARMS),
        **({"kept": result.kept} if result.kept else {}),
    }


def train_policy(
    ctx: StageContext, start: Path, budget: Budget = NO_BUDGET, teacher: Teaching | None = None
) -> tuple[GRPOResult, int]:
    """Trains the checkpoint `start` on samples of its own, with the context's settings and in its folder; with a
    `teacher` by on-policy distillation. Also returns the tokens that measuring the questions' difficulty took."""
    config, template = ctx.config, ctx.stage.template
    rank = None if has_experts(start) else config.grpo.served_adapter_rank(ctx.profile.engine)
    tokenizer = ctx.serve(start, rank).tokenizer  # adapters of experts reach an engine merged
    longest = config.grpo.longest_completion
    questions = training_questions(ctx, config.questions)
    check_rewards_apply(ctx.key, config.rewards, questions)
    questions, prompts = fitting_prompts(ctx, questions, tokenizer, template, longest)
    tried = 0
    if config.difficulty:
        questions, tried = sometimes_solved(ctx, tokenizer, questions, template)
        prompts = render_prompts(ctx.profile, questions, tokenizer, template, longest)
    if len(questions) < config.grpo.prompts_sampled:
        raise RunError(
            f"{ctx.stage_id}: {len(questions)} questions are left ({FUNNELS} lists the others with reasons), and a "
            f"rollout asks {config.grpo.prompts_sampled} different ones. Give more questions, or lower "
            f"stages.{ctx.key}.grpo.rollout_prompts, or prompts_per_step."
        )
    curve = config.heldout
    heldout = _curve_questions(ctx, curve) if curve else []
    if heldout:
        answer_tokens = ctx.profile.stages.evaluate.sampling.max_tokens
        heldout, _ = fitting_prompts(ctx, heldout, tokenizer, template, answer_tokens, f"{PROMPTS}: {curve.set}")
    result = ctx.together(
        _train,
        start=start,
        template=template,
        dataset=[{**q.columns(), "prompt": prompt} for q, prompt in zip(questions, prompts, strict=True)],
        heldout=heldout,
        rewards=[with_scorer(spec, ctx) for spec in config.rewards],
        budget=budget,
        teacher=teacher,
    )
    return result, tried


def _curve_questions(ctx: StageContext, curve: Heldout) -> list[Question]:
    """The questions of the stage's held-out curve. If they choose a checkpoint, `evaluate` asks different ones."""
    if ctx.profile.chooses(curve):
        return selection_questions(ctx.profile, curve)
    if curve.keep_best:
        ctx.log.warning("%s: %s", ctx.stage_id, NOTHING_TO_CHOOSE_BY.format(set=curve.set))
    return evaluation_questions(ctx.profile, curve.set)[: curve.questions]


def with_scorer(spec: RewardSpec, ctx: StageContext) -> RewardSpec:
    """Replace the name of a ladder's scorer by the folder of its model, and name the reward after it; a reward model
    also gets the stage's device."""
    args, name = spec.args, spec.name
    if spec.scorer is not None:
        args, name = {**args, "model": str(ctx.learns_from.folder / spec.scorer)}, name or spec.scorer
    if spec.use == RewardModel.name:
        args = {"device": ctx.device, **args}
    return spec.model_copy(update={"args": args, "name": name})


def _train(
    ctx: StageContext,
    start: Path,
    template: str,
    dataset: list[dict],
    heldout: list[Question],
    rewards: list[RewardSpec],
    budget: Budget,
    teacher: Teaching | None,
) -> GRPOResult:
    """In every process of the run."""
    config, engine = ctx.config, ctx.engines.current
    context = RewardContext(num_generations=config.grpo.group_size, allow_weak_sandbox=ctx.profile.allow_weak_sandbox)
    chosen = ctx.profile.trackers if ctx.crew.leads else ()
    try:
        reward_set = RewardSet(rewards, context)
    except RewardError as error:  # on a machine that lacks what the first one has
        raise RunError(str(error)) from error
    try:
        trackers = Trackers(chosen, ctx.run, ctx.stage_id, ctx.folder, config.model_dump(mode="json"))
        with trackers, ctx.progress("GRPO", config.grpo.max_steps, quiet=True) as bar:
            table = StepTable(config.grpo.max_steps, ctx.log.info, width=shown_columns(), pace=bar.pace)
            watch = JudgedWatch(ctx.stage_id, reward_set, _before(ctx.folder / METRICS))

            def log(figures: dict[str, Any]) -> None:
                bar.update(figures["step"])
                table.step(figures)
                trackers.log(figures)
                watch.step(figures)

            result = train_grpo(
                model_path=start,
                tokenizer=engine.tokenizer,
                dataset=dataset,
                settings=config.grpo,
                engine=engine,
                reward_functions=reward_set.functions,
                reward_weights=reward_set.weights,
                output_dir=ctx.folder,
                seed=ctx.seed,
                dtype=ctx.profile.dtype,
                device=ctx.device,
                log=log,
                resume=True,
                token_budget=budget.tokens,
                completion_budget=budget.completion_tokens,
                seconds_budget=budget.seconds,
                teacher=teacher,
                nonfinite_steps=ctx.profile.watchdog.nonfinite_steps,
                on_checkpoint=lambda step: ctx.checkpointed(step, config.grpo.max_steps, "step"),
                parallel=ctx.profile.parallel,
                eval_hook=HeldoutCurve(ctx, heldout, template, trackers) if heldout else None,
                eval_every=config.heldout.every if config.heldout else None,
                keep_best=bool(heldout) and ctx.profile.chooses(config.heldout),
            )
            if ctx.crew.leads:
                watch.end()
            if result.kept:
                ctx.log.info(
                    "%s: the checkpoint is that of step %d, the best of its held-out curve",
                    ctx.stage_id, result.kept["step"],
                )  # fmt: skip
            return result
    except RewardError as error:
        raise RunError(f"{error}\nThe last checkpoint is kept: fix the reward and run the same command.") from error
    finally:
        reward_set.close()


class HeldoutCurve:
    """Evaluates the live policy on held-out questions: figures go to `heldout.jsonl`, answers to `heldout/`.

    Each process asks its share of the questions, and the leader judges them all, and gives the score that `keep_best`
    compares; None for a step that may not be kept.
    """

    def __init__(self, ctx: StageContext, questions: list[Question], template: str, trackers: Trackers):
        self.ctx, self.questions, self.template, self.trackers = ctx, questions, template, trackers
        self.settings: Heldout = ctx.config.heldout
        self.evaluation = ctx.profile.stages.evaluate

    def __call__(self, step: int, engine) -> float | None:
        crew = self.ctx.crew
        seed = self.evaluation.seed + crew.rank
        sampling = self.evaluation.sampling.model_copy(update={"seed": seed, "logprobs": False})
        prompts = render_prompts(self.ctx.profile, self.questions, engine.tokenizer, self.template, sampling.max_tokens)
        with phase("generation"):
            shares = crew.gather(engine.generate(prompts[crew.rank :: crew.size], self.settings.samples, sampling))
        score = None if shares is None else self._judge(step, shares)
        crew.gather(None)  # the other processes wait here until judging is done
        return score

    def _judge(self, step: int, shares: list[list[list[Completion]]]) -> float | None:
        """`shares[r]`: the completions of process r, which sampled every n-th question (n processes)."""
        crew = self.ctx.crew
        groups = [shares[place % crew.size][place // crew.size] for place in range(len(self.questions))]
        metric = self.evaluation.sets[self.settings.set].metric
        with phase("scoring"):
            weak = self.ctx.profile.allow_weak_sandbox
            scored = score_samples(self.questions, groups, metric, self.template, weak)
        figures = {"step": step, "set": self.settings.set, **summarise(scored, [self.settings.samples])}
        write_json_lines(self.ctx.folder / HELDOUT, [*_before(self.ctx.folder / HELDOUT, step), figures])
        folder = self.ctx.folder / "heldout"
        folder.mkdir(exist_ok=True)
        write_json_lines(folder / f"step-{step:06d}.jsonl", judged_rows(self.questions, scored))
        self.trackers.log(figures, "heldout/")
        self._sound_alarms(step)
        if step < self.settings.best_from:
            return None
        return sum(weight * (figures[figure] or 0.0) for figure, weight in self.settings.best_by.items())

    def _sound_alarms(self, step: int) -> None:
        """Warn about signs of a collapse, and append them to `alarms.jsonl`."""
        folder = self.ctx.folder
        alarms = find_alarms(_before(folder / METRICS), _before(folder / HELDOUT))
        for alarm in alarms:
            self.ctx.log.warning("%s at step %d: %s", alarm.kind, alarm.step, alarm.message)
        self.trackers.log({"step": step, "alarms": len(alarms)}, "heldout/")
        if alarms or (folder / ALARMS).is_file():
            write_json_lines(folder / ALARMS, [*_before(folder / ALARMS, step), *map(asdict, alarms)])


def _before(path: Path, step: float = float("inf")) -> list[dict]:
    """The rows of a file for steps before `step`; later rows were left by an interrupted run."""
    return [row for _, row in read_json_lines(path) if row["step"] < step] if path.is_file() else []
