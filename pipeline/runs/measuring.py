"""Measures this machine for a budget: how many sequences at once are fastest, then a few RL steps from the base model.

The steps are those of the first RL stage, in a folder of their own that is removed afterwards.
"""

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.engine import Sampling
from pipeline.core.console import LOGGER
from pipeline.core.files import read_json_lines
from pipeline.ladder import StageDefinition, of_kind
from pipeline.runs.bounds import CONCURRENCY, Bounds
from pipeline.runs.budget import Measured, OpenStage, Reload
from pipeline.runs.work import ANSWER_SHARE
from pipeline.steps.context import StageContext
from pipeline.steps.questions import fitting_prompts, training_questions
from pipeline.steps.rl import train_by_rl
from pipeline.training.records import METRICS

STEPS = 4
"""RL steps that are measured; the first one, which also warms up, is left out."""
GAIN = 1.05
"""How many times faster twice as many sequences have to be written to be worth their memory."""
WRITING_SHARE = 1 / 3
"""Of the time for measuring, what goes into finding out how many sequences at once are fastest."""
TRAINING_COST = 2.0
"""Seconds of a whole step over those of writing its answers, before either is known: they are about equal."""


def measure(
    seconds: float, reload: Reload, chosen: Sequence[str], bounds: Bounds, scratch: Path, opened: OpenStage
) -> Measured:
    """Measures for about `seconds`. `chosen` are overrides of `reload`; `scratch` is removed before and afterwards."""
    stage = of_kind("rl")[0]
    log = logging.getLogger(f"{LOGGER}.measuring")
    log.setLevel(logging.WARNING)
    least, most = bounds.get(CONCURRENCY, (None, reload(chosen).engine.max_sequences))
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        with opened(stage, reload([*chosen, f"{CONCURRENCY}={most}"]), scratch, log) as ctx:
            sequences, written_s = _fastest(ctx, least or most, most, WRITING_SHARE * seconds)
        section = getattr(reload(chosen).stages, stage.id)
        prompts = _prompts_a_step(section.grpo, written_s, (1 - WRITING_SHARE) * seconds, ctx.crew.size)
        profile = reload([*chosen, f"{CONCURRENCY}={sequences}", *_short_run(stage, prompts)])
        shutil.rmtree(scratch)
        scratch.mkdir()
        begun = time.monotonic()
        with opened(stage, profile, scratch, log) as ctx:
            train_by_rl(ctx)
        whole = time.monotonic() - begun
        records = [record for _, record in read_json_lines(scratch / METRICS)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    warm = records[1:]
    step_s = sum(record["seconds_step"] for record in warm) / len(warm)
    update_s = sum(record["seconds_update"] for record in warm) / len(warm)
    written = sum(record["rollout_tokens"] for record in warm) / len(warm)
    trained = sum(record["forward_tokens"] for record in warm) / len(warm)
    return Measured(
        written_s=(step_s - update_s) / max(1.0, written),
        trained_s=update_s / max(1.0, trained),
        step_s=step_s * section.grpo.prompts_per_step / prompts,
        start_s=max(0.0, whole - sum(record["seconds_step"] for record in records)),
        max_sequences=sequences,
    )


def _short_run(stage: StageDefinition, prompts: int) -> list[str]:
    """Overrides that make the stage `STEPS` steps on their own samples, without anything around them."""
    grpo = {
        "max_steps": STEPS, "prompts_per_step": prompts, "rollout_prompts": "null", "sampled_prompts": "null",
        "steps_ahead": 0, "checkpoint_every": STEPS, "reference_refresh_steps": "null", "dynamic_sampling": 0,
    }  # fmt: skip
    keys = [f"stages.{stage.id}.grpo.{key}={value}" for key, value in grpo.items()]
    return [*keys, f"stages.{stage.id}.heldout=null", f"stages.{stage.id}.difficulty=null", "trackers=[]"]


def _fastest(ctx: StageContext, least: int, most: int, seconds: float) -> tuple[int, float]:
    """(sequences at once, seconds a token with them): doubled from the least for as long as that pays."""
    settings = ctx.config.grpo
    engine = ctx.serve(ctx.start())
    questions = training_questions(ctx, ctx.config.questions)
    _, prompts = fitting_prompts(ctx, questions, engine.tokenizer, ctx.stage.template, settings.longest_completion)
    sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_completion_tokens, seed=ctx.seed)
    engine.generate(prompts[:1], 1, sampling)  # what is compiled or allocated at the first call
    best, best_s, begun, sequences = least, float("inf"), time.monotonic(), least
    while best_s == float("inf") or time.monotonic() - begun < seconds:
        asked = [prompts[place % len(prompts)] for place in range(sequences)]
        tokens, before = engine.stats.tokens, engine.stats.seconds
        engine.generate(asked, 1, sampling)
        token_s = (engine.stats.seconds - before) / max(1, engine.stats.tokens - tokens)
        if token_s * GAIN > best_s:
            break
        best, best_s = sequences, token_s
        if best == most:
            break
        sequences = min(2 * sequences, most)
    return best, best_s


def _prompts_a_step(settings, written_s: float, seconds: float, processes: int) -> int:
    """Questions of a measured step: the stage's own, or fewer where `STEPS` such steps would take too long."""
    answer = settings.group_size * settings.max_completion_tokens * ANSWER_SHARE * written_s * TRAINING_COST
    fitting = int(seconds / (STEPS * answer)) // processes * processes if answer else settings.prompts_per_step
    return min(settings.prompts_per_step, max(processes, fitting))
