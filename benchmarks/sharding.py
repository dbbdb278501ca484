"""Training in shards over two processes against one: losses, gradients, weights after a step, what is saved, resumes.

    make prove-sharding

Two gloo processes on CPUs, torch's FSDP2, tiny random models in float32 (`parallel.shard: fsdp2`). Prints the largest
relative difference of each case and exits with 1 where one is above its bound. A few minutes on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pipeline.config.grpo import GRPOSettings
from pipeline.config.lora import LoRASettings
from pipeline.config.parallel import ParallelSettings
from pipeline.config.reward_model import RewardTraining
from pipeline.config.sft import SFTSettings
from pipeline.core.memory import forget_peak, peak
from pipeline.core.ranks import process_rank
from pipeline.core.tokens import load_tokenizer
from pipeline.training.checkpoints import last_checkpoint
from pipeline.training.reward_model import train_reward_model
from pipeline.training.sft import train_sft
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.cases import GROUPS, ONE_STEP, lora, make_trainer, one_step, written

BOUND = 1e-5
"""Largest relative difference (Frobenius norm of a tensor, or a loss) that counts as rounding."""
SHARDED = {"shard": "fsdp2"}
UNPACKED = {"speedups": {"packing": False, "share_prompts": False}}
ADAM = {"optim": "adamw_torch", "adam_epsilon": 1e-3}
"""With an epsilon above rounding noise Adam's step is as exact as the gradients."""
MATCHED = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
ADAPTERS = {"rank": 4, "alpha": 8.0, **MATCHED}

STEPS = {
    "grpo": {},
    "all groups flat, weight decay": {"flat": GROUPS, "settings": {"weight_decay": 0.1}, "arguments": ADAM},
    "dr_grpo": {"settings": {"loss_type": "dr_grpo"}},
    "dapo, untied head, Adam": {"model": "llama", "settings": {"loss_type": "dapo"}, "arguments": ADAM},
    "KL, Adam": {"settings": {"beta": 0.05}, "arguments": ADAM},
    "KL, untied head, not packed": {"model": "llama", "settings": {"beta": 0.05, **UNPACKED}},
    "not packed": {"settings": UNPACKED},
    "adapters": {"peft": True},
    "adapters, KL": {"peft": True, "settings": {"beta": 0.05}},
    "adapters, KL, untied head, not packed": {"model": "llama", "peft": True, "settings": {"beta": 0.05, **UNPACKED}},
    "experts, KL": {"model": "qwen3_moe", "settings": {"beta": 0.05}},
    "gradient checkpointing": {"settings": {"beta": 0.05, "gradient_checkpointing": True}},
    "bfloat16": {"dtype": "bfloat16", "bound": 5e-2},
    "bfloat16, gathered as float32": {"dtype": "bfloat16", "parallel": {"gather": "float32"}, "bound": 5e-3},
    "states in the host's memory": {"parallel": {"offload": True}},
}
"""One step of GRPO each, by name. `bound`: where arithmetic in bfloat16 rounds, which depends on shapes of batches."""
TRAININGS = {
    "SFT": {"kind": "sft"},
    "SFT, adapters": {"kind": "sft", "lora": ADAPTERS},
    "SFT, untied head": {"kind": "sft", "model": "llama"},
    "reward model": {"kind": "scorer"},
    "reward model, adapters": {"kind": "scorer", "lora": ADAPTERS},
}
"""Whole trainings with what they save, by name."""
RESUMED = ("SFT", "SFT, adapters")
"""Those that are also cut off, and go on with another number of processes."""
FIGURES = "losses and gradient norms"
HELD, LARGE = "what a process holds", "a model of 100 million weights"
HOLDINGS = {
    HELD: {"kind": "held", "arguments": ADAM},
    LARGE: {"kind": "held", "model": "large", "arguments": ADAM},
}
"""Two steps of GRPO each: bytes of weights, of the optimizer's state, and the peak of the process that leads."""
LARGE_SHAPE = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 24, "num_key_value_heads": 8,
    "intermediate_size": 3072,
}  # fmt: skip
MOST_HELD, MOST_PEAK = 0.52, 0.72
"""Shares of one process's weights and optimizer, and of the peak of two that hold all, that two shards may take."""


def job(name: str, folder: Path, processes: int, **more: Any) -> dict[str, Any]:
    """What a worker is told of a case; on one process nothing is in shards.

    `more`: `until`, the step after which SFT is cut off; `trained_in`, the folder that it goes on in; `called`, what
    its file is called in place of the case's name.
    """
    case = {**STEPS, **TRAININGS, **HOLDINGS}[name]
    parallel = more.pop("parallel", {**SHARDED, **case.get("parallel", {})} if processes > 1 else {})
    told = {"kind": "step", "model": "qwen3", **case, "name": name, "models": str(folder), "parallel": parallel}
    return {**told, **more}


class CutOff(Exception):
    """Ends a training, as losing its machine would."""


def make_models(folder: Path, names: list[str]) -> None:
    for kind in {job(name, folder, 1)["model"] for name in names}:
        architecture, shape = ("qwen3", LARGE_SHAPE) if kind == "large" else (kind, {})
        tiny_checkpoint(folder / kind, architecture, **shape)


def run_jobs(jobs: list[dict[str, Any]], out: Path) -> None:
    """Runs jobs one after the other in this process, or this one's part of them, into NAME.safetensors."""
    for number, given in enumerate(jobs):
        folder = Path(given.get("trained_in") or out / f"{number}")
        try:
            train = {"step": _step, "sft": _sft, "scorer": _scorer, "held": _held}[given["kind"]]
            tensors = train(given, folder)
        except CutOff:
            continue
        if process_rank() == 0:
            save_file(tensors, out / f"{given.get('called', given['name'])}.safetensors")


def launch(jobs: list[dict[str, Any]], out: Path, processes: int = 2, timeout_s: float = 1800) -> None:
    """`run_jobs` in so many processes, which talk through gloo. Raises CalledProcessError, TimeoutExpired."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    quiet = {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *torchrun, "-m", "benchmarks.sharding", str(out / "jobs.json")]
    subprocess.run(command, check=True, timeout=timeout_s, env=os.environ | quiet)


def resumed(name: str, folder: Path, before: int, after: int) -> tuple[Path, Path]:
    """What an undisturbed training of one process gave after its first step, and one that was cut off there on `before`
    processes and went on with `after`."""
    out = folder / f"{name} {before}-{after}"
    where = {"trained_in": str(out / "trained")}
    launch([job(name, folder, before, until=1, **where)], out, before)
    launch([job(name, folder, after, **where)], out, after)
    return without_first_step(folder / "1" / f"{name}.safetensors"), out / f"{name}.safetensors"


def without_first_step(result: Path) -> Path:
    """A copy of a training's result as one has it that was resumed after its first step."""
    tensors, shortened = load_file(result), result.with_suffix(".resumed.safetensors")
    save_file({**tensors, FIGURES: tensors[FIGURES][1:].contiguous()}, shortened)
    return shortened


def difference(one: Path, other: Path) -> tuple[float, str]:
    """The largest relative difference between two result files, and of which tensor. A loss is a sum that nearly
    cancels out, so it is measured against its terms, which are of the size 0.01 and more."""
    a, b = load_file(one), load_file(other)
    if a.keys() != b.keys():
        return float("inf"), f"tensors {sorted(a.keys() ^ b.keys())[:4]}"
    size = {name: tensor.double().norm().item() + (1e-2 if name == "loss" else 1e-9) for name, tensor in a.items()}
    return max(((a[name].double() - b[name].double()).norm().item() / size[name], name) for name in a)


def _step(given: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    settings = {
        **ONE_STEP,
        "learning_rate": 0.1 if given.get("arguments") is None else 1e-3,
        **given.get("settings", {}),
    }
    trainer = make_trainer(
        "ours",
        str(Path(given["models"]) / given["model"]),
        folder,
        written(flat_groups=given.get("flat", 3)),
        GRPOSettings.model_validate(settings),
        lora() if given.get("peft") else None,
        ParallelSettings.model_validate(given["parallel"]),
        given.get("dtype", "float32"),
        **(given.get("arguments") or {"optim": "sgd"}),
    )
    result = one_step(trainer)
    handed = trainer.engine.synced[0]
    return (
        {f"gradient.{name}": tensor.float().contiguous() for name, tensor in result["gradients"].items()}
        | {f"weight.{name}": tensor.float().contiguous() for name, tensor in result["weights"].items()}
        | {f"handed over.{name}": tensor.float().contiguous() for name, tensor in handed.items()}
        | {"loss": torch.tensor(result["loss"], dtype=torch.float64)}
    )


def _held(given: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    settings = GRPOSettings.model_validate({**ONE_STEP, "max_steps": 2, "learning_rate": 1e-4})
    forget_peak()
    trainer = make_trainer(
        "ours", str(Path(given["models"]) / given["model"]), folder, written(), settings, None,
        ParallelSettings.model_validate(given["parallel"]), **given["arguments"],
    )  # fmt: skip
    trainer.engine.sync_weights = lambda model: None  # the stand-in for an engine would keep copies
    trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    parts = (list(trainer.model.parameters()), [value for value in states if torch.is_tensor(value)])
    held = [sum(getattr(part, "to_local", lambda here=part: here)().nbytes for part in every) for every in parts]
    return {"held": torch.tensor([*held, peak()], dtype=torch.float64)}


def held_shares(one: Path, sharded: Path) -> tuple[float, float]:
    """Of what is held (weights and optimizer), and of the peak: how much the second has of the first's."""
    whole, part = (load_file(file)["held"] for file in (one, sharded))
    return (part[:2].sum() / whole[:2].sum()).item(), (part[2] / whole[2]).item()


def _sft(given: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    model, figures = Path(given["models"]) / given["model"], []

    def on_step(step: int, steps: int, logged: dict[str, float]) -> None:
        figures.append((logged["loss"], logged["grad_norm"]))
        if step > given.get("until", steps):
            raise CutOff

    train_sft(
        model_path=model,
        tokenizer=load_tokenizer(model),
        prompts=[f"{n} + {n % 7} =" for n in range(16)],
        responses=["so " * (1 + n % 5) + str(n + n % 7) for n in range(16)],
        settings=SFTSettings(
            epochs=1, learning_rate=1e-3, batch_size=8, rows_per_device=2, max_tokens=64, checkpoint_every=1,
            lora=given.get("lora") and LoRASettings.model_validate(given["lora"]),
        ),
        output=folder,
        seed=3,
        device="cpu",
        dtype="float32",
        on_step=on_step,
        resume_from=last_checkpoint(folder / "trainer") if (folder / "trainer").exists() else None,
        parallel=ParallelSettings.model_validate(given["parallel"]),
    )  # fmt: skip
    return _saved(folder / "checkpoint", figures)


def _scorer(given: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    model, figures = Path(given["models"]) / given["model"], []
    pairs = [(f"{n} + {n % 7} = {n + n % 7}", f"{n} + {n % 7} = " + "x " * (1 + n % 4)) for n in range(16)]
    folder.mkdir(parents=True, exist_ok=True)
    result = train_reward_model(
        model_path=model,
        tokenizer=load_tokenizer(model),
        pairs=pairs,
        held_back=pairs[:6],
        settings=RewardTraining(
            epochs=1, learning_rate=1e-3, batch_size=8, pairs_per_device=2, max_tokens=64,
            lora=given.get("lora") and LoRASettings.model_validate(given["lora"]),
        ),
        output=folder / "scorer",
        seed=3,
        device="cpu",
        dtype="float32",
        on_step=lambda step, steps, logged: figures.append((logged["loss"], logged["grad_norm"])),
        parallel=ParallelSettings.model_validate(given["parallel"]),
    )  # fmt: skip
    return _saved(folder / "scorer", figures) | {"accuracy": torch.tensor([result.accuracy], dtype=torch.float64)}


def _saved(checkpoint: Path, figures: list[tuple[float, float]]) -> dict[str, torch.Tensor]:
    """What a training has saved, as a plain folder holds it; the first process has written it."""
    saved = load_file(checkpoint / "model.safetensors") if process_rank() == 0 else {}
    return {f"saved.{name}": tensor for name, tensor in saved.items()} | {
        FIGURES: torch.tensor(figures, dtype=torch.float64)
    }


def main() -> int:
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        run_jobs(json.loads(path.read_text(encoding="utf-8")), path.parent)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        return 0
    names, worst = [*STEPS, *TRAININGS], 0.0

    def show(what: str, one: Path, other: Path, bound: float = BOUND) -> float:
        error, where = difference(one, other)
        print(f"{what:48} {error:.1e} of {bound:.0e} allowed  {where}", flush=True)
        return error / bound

    with tempfile.TemporaryDirectory(prefix="sharding-") as made:
        folder = Path(made)
        make_models(folder, names)
        for count in (1, 2):
            launch([job(name, folder, count) for name in names], folder / str(count), count)
        for name in names:
            one, two = (folder / count / f"{name}.safetensors" for count in "12")
            worst = max(worst, show(name, one, two, STEPS.get(name, {}).get("bound", BOUND)))
        for name in RESUMED:
            for before, after in ((2, 1), (1, 2), (2, 4), (4, 2)):
                error = show(f"{name}, cut off on {before}, ended on {after}", *resumed(name, folder, before, after))
                worst = max(worst, error)
        return max(int(worst > 1), _show_holdings(folder))


def _show_holdings(folder: Path) -> int:
    """1 where a process in shards holds too much."""
    make_models(folder, [LARGE])
    for label, parallel in (("whole", {"shard": "none"}), ("shards", SHARDED)):
        launch([job(LARGE, folder, 2, parallel=parallel)], folder / label, 2)
    held, highest = held_shares(*(folder / label / f"{LARGE}.safetensors" for label in ("whole", "shards")))
    print(f"{LARGE}: weights and optimizer {held:.3f} of {MOST_HELD} allowed, peak {highest:.3f} of {MOST_PEAK}")
    return int(held > MOST_HELD or highest > MOST_PEAK)


if __name__ == "__main__":
    sys.exit(main())
