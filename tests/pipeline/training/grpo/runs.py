"""Short GRPO runs on a tiny model, for the tests of this folder."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.config.grpo import GRPOSettings
from pipeline.training.grpo.run import train_grpo

QUESTIONS = [{"id": f"q{i}", "prompt": f"What is {i} + {i} ?", "answer": str(2 * i)} for i in range(9)]


def settings(**changes) -> GRPOSettings:
    return GRPOSettings.model_validate(
        {
            "prompts_per_step": 2,
            "group_size": 4,
            "rollout_prompts": None,
            "max_steps": 4,
            "max_completion_tokens": 8,
            "max_completion_schedule": [],
            "learning_rate": 1e-2,
            "beta": 0.0,
            "checkpoint_every": 2,
            "log_rollouts_every": 1,
        }
        | changes
    )


def multiples_of_three(completion_ids, **_):
    return [sum(token % 3 == 0 for token in ids) / len(ids) for ids in completion_ids]


def run(start, engine, out, chosen, rewards=(multiples_of_three,), weights=None, **more):
    engine.load_weights(start)
    return train_grpo(
        model_path=start,
        tokenizer=AutoTokenizer.from_pretrained(start),
        dataset=more.pop("dataset", QUESTIONS),
        settings=chosen,
        engine=engine,
        reward_functions=list(rewards),
        reward_weights=weights or [1.0] * len(rewards),
        output_dir=out,
        seed=3,
        dtype="float32",
        **more,
    )


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def rollouts(out: Path) -> dict[str, list[dict]]:
    files = sorted((out / "rollouts").iterdir())
    return {f.stem: [json.loads(line) for line in f.read_text().splitlines()] for f in files}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


class Stop(Exception):
    pass
