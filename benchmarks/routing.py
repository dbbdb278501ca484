"""How far rollouts and training differ for a mixture of experts in bfloat16, with routing replay and without.

    python -m benchmarks.routing [--steps 2] [--experts 16] [--seeds 3] [--out FILE]

Random DeepSeek-V3 and Qwen3-MoE models of four layers are sampled by the `transformers` engine and put through the
trainer's packed pass, in both precisions, at a learning rate that changes nothing. Prints `routed_otherwise_share` and
the sampler gap (mean and largest difference of log-probabilities), means over seeds. A few minutes on one core.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, DeepseekV3Config, Qwen3MoeConfig

from data_recipes.pocket.bases import base_folder
from pipeline.config.engine import EngineSettings
from pipeline.config.grpo import GRPOSettings
from pipeline.core.tables import print_table
from pipeline.engines import open_engine
from pipeline.training.grpo.run import train_grpo

KINDS = ("deepseek_v3", "qwen3_moe")
QUESTIONS = [{"prompt": f"What is {i} + {i + 1} ?"} for i in range(16)]
FIGURES = ("routed_otherwise_share", "sampler_gap", "sampler_gap_max")


def base(kind: str, experts: int, seed: int, folder: Path) -> Path:
    """A random checkpoint with the pocket tokenizer; its weights are wide enough that a router has preferences."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 256, "moe_intermediate_size": 64, "num_experts_per_tok": 4, "initializer_range": 0.1,
        "max_position_embeddings": 512, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }  # fmt: skip
    configs = {
        "deepseek_v3": lambda: DeepseekV3Config(
            **shape, num_key_value_heads=4, kv_lora_rank=32, q_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16,
            v_head_dim=32, first_k_dense_replace=1, n_routed_experts=experts, n_group=4, topk_group=2,
            n_shared_experts=1, num_mtp_layers=0,
        ),
        "qwen3_moe": lambda: Qwen3MoeConfig(
            **shape, num_key_value_heads=2, head_dim=32, num_experts=experts, decoder_sparse_step=1, mlp_only_layers=[],
            norm_topk_prob=True,
        ),
    }  # fmt: skip
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(configs[kind]()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measured(start: Path, dtype: str, replay: bool, steps: int, seed: int, out: Path) -> dict[str, float]:
    """Means of the figures over the steps of a run, each on a rollout of its own."""
    settings = GRPOSettings(
        prompts_per_step=8, group_size=4, rollout_prompts=None, max_steps=steps, max_completion_tokens=48,
        max_completion_schedule=[], learning_rate=1e-30, beta=0.0, checkpoint_every=steps, routing_replay=replay,
    )  # fmt: skip
    records: list[dict] = []
    engine_settings = EngineSettings(kind="transformers", dtype=dtype, max_model_len=128)
    with open_engine(engine_settings, start, seed=seed) as engine:
        train_grpo(
            model_path=start, tokenizer=AutoTokenizer.from_pretrained(start), dataset=QUESTIONS, settings=settings,
            engine=engine, reward_functions=[tokens_of_three], reward_weights=[1.0], output_dir=out, seed=seed,
            dtype=dtype, log=records.append,
        )  # fmt: skip
    return {name: statistics.fmean(record[name] for record in records) for name in FIGURES}


def tokens_of_three(completion_ids, **_) -> list[float]:
    return [sum(token % 3 == 0 for token in ids) / len(ids) for ids in completion_ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    table, found = Table(title="rollouts against training"), []
    for column in ("model", "precision", "replay", *FIGURES):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            starts = [base(kind, asked.experts, seed, Path(folder, f"{kind}-{seed}")) for seed in range(asked.seeds)]
            for dtype in ("float32", "bfloat16"):
                for replay in (False, True):
                    runs = [
                        measured(start, dtype, replay, asked.steps, seed, Path(folder, "run"))
                        for seed, start in enumerate(starts)
                    ]
                    figures = {name: statistics.fmean(run[name] for run in runs) for name in FIGURES}
                    found.append({"model": kind, "dtype": dtype, "replay": replay} | figures)
                    table.add_row(kind, dtype, "on" if replay else "off", *(f"{figures[name]:.2g}" for name in FIGURES))
    print_table(table)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
