"""One GRPO step on completions given beforehand, by stock TRL and by our trainer.

Run as a program it makes one step of each of several jobs, on several processes or on one:
`torchrun --nproc-per-node 2 -m tests.pipeline.training.grpo.cases JOBS.json` writes NAME.safetensors beside that file.
"""

import json
import random
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoTokenizer
from trl import GRPOTrainer

from pipeline.config.grpo import GRPOSettings
from pipeline.config.parallel import NOT_SHARED, ParallelSettings
from pipeline.core.shards import reshard, split_like, whole
from pipeline.engines import EngineStats
from pipeline.engines.completion import Completion
from pipeline.engines.weights import checkpoint_weights
from pipeline.training.grpo.run import trainer_arguments
from pipeline.training.grpo.trainer import LadderGRPOTrainer
from pipeline.training.teacher import Teaching

GROUPS, GROUP_SIZE, LIMIT = 6, 4, 24
END = 1
ONE_STEP = {
    "prompts_per_step": GROUPS,
    "group_size": GROUP_SIZE,
    "rollout_prompts": None,
    "max_steps": 1,
    "max_completion_tokens": LIMIT,
    "max_completion_schedule": [],
    "beta": 0.0,
    "reference_refresh_steps": None,
    "max_tokens_per_microbatch": 120,  # several micro-batches, of unequal numbers of rows and between processes
}
"""Settings of one optimizer step on what `written` gives."""


def written(flat_groups: int = 0, seed: int = 0) -> dict[str, dict]:
    """What a sampler wrote: prompt → completions, their log-probabilities and rewards.

    Lengths are unequal, some completions are cut at the limit, prompts differ in length and one has a single token;
    the first `flat_groups` groups have equal rewards.
    """
    rng = random.Random(seed)
    cases = {}
    for g in range(GROUPS):
        prompt = "a" if g == 1 else "".join(rng.choice("abcdefgh") for _ in range(rng.randint(2, 20))) + str(g)
        completions = []
        for _ in range(GROUP_SIZE):
            length = rng.choice([1, 2, 5, 9, 16, LIMIT])
            tokens = [rng.randint(4, 500) for _ in range(length)]
            completions.append(tokens if length == LIMIT else [*tokens[:-1], END])
        cases[prompt] = {
            "ids": completions,
            "logprobs": [[-6.2 + 0.5 * rng.random() for _ in tokens] for tokens in completions],
            "rewards": [0.5] * GROUP_SIZE if g < flat_groups else [rng.random() for _ in range(GROUP_SIZE)],
        }
    return cases


class ScriptedEngine:
    """An engine that gives back the completions of `cases`."""

    adapter_rank = None

    def __init__(self, tokenizer, cases):
        self._tokenizer, self._cases, self.stats = tokenizer, cases, EngineStats()
        self.synced = []

    def generate(self, prompts, n, sampling, on_group=None):
        groups = []
        for ids in prompts:
            case = self._cases[self._tokenizer.decode(ids)]
            groups.append(
                [
                    Completion(
                        tokens, self._tokenizer.decode(tokens), values, "stop" if tokens[-1] == END else "length"
                    )
                    for tokens, values in zip(case["ids"][:n], case["logprobs"][:n], strict=True)
                ]
            )
        self.stats.tokens += sum(len(c.token_ids) for group in groups for c in group)
        return groups

    def sync_weights(self, model):
        self.synced.append({name: tensor.clone() for name, tensor in checkpoint_weights(model).items()})


class ScriptedVLLM:
    """The same for stock TRL, in the place of its vLLM."""

    def __init__(self, tokenizer, cases):
        self._tokenizer, self._cases = tokenizer, cases

    def sync_weights(self):
        pass

    def generate(self, prompts, images, num_generations, profiler=None):
        seen: dict[str, int] = {}
        ids, logprobs = [], []
        for prompt in prompts:
            text = self._tokenizer.decode(prompt)
            i = seen.get(text, 0)
            seen[text] = i + 1
            ids.append(self._cases[text]["ids"][i])
            logprobs.append([[value] for value in self._cases[text]["logprobs"][i]])
        return prompts, ids, logprobs, None


def reward_of(cases):
    by_completion = {
        (prompt, tuple(ids)): reward
        for prompt, case in cases.items()
        for ids, reward in zip(case["ids"], case["rewards"], strict=True)
    }

    def given(prompts, completion_ids, **_):
        return [by_completion[prompt, tuple(ids)] for prompt, ids in zip(prompts, completion_ids, strict=True)]

    return given


def make_trainer(
    kind: str,
    model: str,
    folder: Path,
    cases,
    settings: GRPOSettings,
    peft_config=None,
    parallel: ParallelSettings = NOT_SHARED,
    dtype: str = "float32",
    teacher: Teaching | None = None,
    **arguments,
):
    """`arguments` change TRL's arguments after they have been made from `settings`."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    args = trainer_arguments(settings, [1.0], folder, 0, dtype, None, parallel)
    args.save_strategy, args.report_to = "no", []
    for name, value in arguments.items():
        setattr(args, name, value)
    shared = {
        "model": model,
        "reward_funcs": [reward_of(cases)],
        "args": args,
        "train_dataset": Dataset.from_list([{"prompt": prompt} for prompt in cases]),
        "processing_class": tokenizer,
        "peft_config": peft_config,
    }
    if kind == "ours":
        engine = ScriptedEngine(tokenizer, cases)
        trainer = LadderGRPOTrainer(engine=engine, settings=settings, parallel=parallel, teacher=teacher, **shared)
    else:
        trainer = GRPOTrainer(**shared)
        if settings.sampler_correction:
            trainer.use_vllm = True
            trainer._last_loaded_step = -1
            trainer.vllm_generation = ScriptedVLLM(tokenizer, cases)
        else:
            scripted = ScriptedVLLM(tokenizer, cases)
            trainer._generate_single_turn = lambda ids, *_: (scripted.generate(ids, None, 1)[1], None)
    if peft_config is not None:
        _fill_adapters(trainer.model)
    if trainer.ref_model is not None:
        _shift(trainer.accelerator.unwrap_model(trainer.ref_model))
    return trainer


def _shift(model) -> None:
    """Move the reference away from the policy, the same way in both trainers, so that the KL term counts."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_(split_like(0.02 * torch.randn(parameter.shape, generator=generator), parameter))


def _fill_adapters(model) -> None:
    """Adapters start at zero effect; give them one, the same in both trainers."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad and "lora" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))


def one_step(trainer) -> dict:
    """Train one optimizer step; gradients as they were before it, weights after it, and the loss."""
    gradients = {}

    def keep(*_, **__):
        model = trainer.accelerator.unwrap_model(trainer.model)
        gradients.update({n: whole(p.grad).clone() for n, p in model.named_parameters() if p.grad is not None})

    trainer.callback_handler.on_pre_optimizer_step = _after(trainer.callback_handler.on_pre_optimizer_step, keep)
    trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    reshard(model)
    weights = {n: whole(p).clone() for n, p in model.named_parameters() if p.requires_grad}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"loss": losses, "gradients": gradients, "weights": weights}


def _after(method, extra):
    def both(*args, **kwargs):
        result = method(*args, **kwargs)
        extra()
        return result

    return both


def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")


def main() -> None:
    path = Path(sys.argv[1])
    for job in json.loads(path.read_text()):
        trainer = make_trainer(
            job["kind"],
            job["model"],
            path.parent / job["name"],
            job["cases"],
            GRPOSettings.model_validate(job["settings"]),
            lora() if job.get("peft") else None,
            ParallelSettings.model_validate(job.get("parallel", {})),
            job.get("dtype", "float32"),
            **job["arguments"],
        )
        result = one_step(trainer)
        if trainer.is_world_process_zero():
            save_file(
                {f"gradient.{n}": t.contiguous() for n, t in result["gradients"].items()}
                | {f"weight.{n}": t.contiguous() for n, t in result["weights"].items()}
                | {"loss": torch.tensor(result["loss"], dtype=torch.float64)},
                path.parent / f"{job['name']}.safetensors",
            )


if __name__ == "__main__":
    main()
