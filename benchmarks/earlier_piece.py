"""One piece of work of `benchmarks.earlier`, by whichever code stands on PYTHONPATH: this one or an earlier commit's.

    python benchmarks/earlier_piece.py PIECE

Says `ready` once it is warm; then, for each line on its input, does the piece once and writes the CPU seconds of this
process (all its threads) and how much was done: {"cpu": 1.2, "amount": 4000}.
"""

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

BASES = Path(__file__).parent.parent / "data_recipes" / "pocket" / "bases"
CPU = torch.device("cpu")


def sums(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Questions and worked answers of two to eight terms, as the pocket world's are, of 25 to 110 tokens together."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        terms = [rng.randint(1, 60)] + [rng.randint(1, 19) for _ in range(rng.randint(1, 7))]
        total, steps = terms[0], []
        for term in terms[1:]:
            steps.append(f"{total} + {term} = {total + term} .")
            total += term
        asked = f"User: What is {' + '.join(map(str, terms))} ? Assistant:"
        rows.append((asked, f"<think> {' '.join(steps)} </think> The answer is {total} ."))
    return rows


def engine_piece(folder: Path, prompts: list[list[int]], group: int, tokens: int, dtype: str):
    """Tokens that the engine `transformers` writes."""
    try:
        from pipeline.rollouts import EngineSettings, Sampling, open_engine
    except ImportError:
        from pipeline.engines import EngineSettings, Sampling, open_engine
    longest = max(map(len, prompts)) + tokens
    settings = EngineSettings(kind="transformers", dtype=dtype, max_model_len=longest, max_sequences=512)
    engine, seeds = open_engine(settings, folder), iter(range(10**6))

    def once() -> int:
        before = engine.stats.tokens
        engine.generate(prompts, group, Sampling(max_tokens=tokens, seed=next(seeds)))
        return engine.stats.tokens - before

    return once


def update_piece(folder: Path, prompts: list[list[int]], group: int, lengths: tuple[int, int], width: torch.dtype):
    """Packed tokens of a GRPO update: the policy's and the reference's forward pass, backward."""
    try:
        from pipeline.training.packed.attention import attach_packed_forward
        from pipeline.training.packed.packing import Row, pack, packed_tokens, plan_microbatches
    except ImportError:
        from pipeline.training.grpo_attention import attach_packed_forward
        from pipeline.training.grpo_packing import Row, pack, packed_tokens, plan_microbatches
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2))
    for model in (policy, reference):
        attach_packed_forward(model, 1.0)
    rng = random.Random(0)
    rows = [
        Row(
            prompt_ids=prompt,
            completion_ids=[rng.randrange(4, 500) for _ in range(rng.randint(*lengths))],
            advantage=rng.gauss(0, 1),
            sampler_logprobs=None,
            truncated=False,
            group=number,
        )
        for number, prompt in enumerate(prompts)
        for _ in range(group)
    ]

    def once() -> int:
        policy.zero_grad()
        for some in plan_microbatches(rows, 16_384, True):
            batch = pack(some, True, CPU)
            with torch.autocast("cpu", width, enabled=width != torch.float32):
                log_probs, _ = policy(packed=batch, entropy=True)
                with torch.no_grad():
                    held_to, _ = reference(packed=batch, entropy=False)
            log_probs, held_to = batch.unpack(log_probs), batch.unpack(held_to)
            advantages = torch.tensor([row.advantage for row in some])[:, None]
            kl = torch.exp(held_to - log_probs) - (held_to - log_probs) - 1
            (-(torch.exp(log_probs - log_probs.detach()) * advantages).sum() + 0.001 * kl.sum()).div(8000).backward()
        return packed_tokens(rows, True)

    return once


def sft_piece(folder: Path, rows: list[tuple[str, str]]):
    """Rows fine-tuned on, first step to last, of the pocket profile's SFT."""
    from pipeline.training.sft import SFTSettings, train_sft

    settings = SFTSettings(epochs=1, learning_rate=1e-3, batch_size=32, rows_per_device=32, max_tokens=256)
    prompts, responses = zip(*rows, strict=True)
    return _trained(
        lambda output, on_step: train_sft(
            model_path=folder, tokenizer=AutoTokenizer.from_pretrained(folder), prompts=prompts, responses=responses,
            settings=settings, output=output, seed=0, device="cpu", dtype="float32", on_step=on_step,
        )
    )  # fmt: skip


def reward_model_piece(folder: Path, rows: list[tuple[str, str]]):
    """Pairs that a scorer is trained on, first step to last, as the pocket profile trains it."""
    from pipeline.training.reward_model import RewardTraining, train_reward_model

    settings = RewardTraining(epochs=1, learning_rate=5e-4, batch_size=32, pairs_per_device=32, max_tokens=256)
    worse = [answer for _, answer in rows[1:] + rows[:1]]
    pairs = [(asked + answer, asked + other) for (asked, answer), other in zip(rows, worse, strict=True)]
    return _trained(
        lambda output, on_step: train_reward_model(
            model_path=folder, tokenizer=AutoTokenizer.from_pretrained(folder), pairs=pairs, held_back=[],
            settings=settings, output=output / "scorer", seed=0, device="cpu", dtype="float32", on_step=on_step,
        )
    )  # fmt: skip


def _trained(train):
    def once() -> tuple[float, int]:
        ends = []
        with tempfile.TemporaryDirectory() as folder:
            train(Path(folder), lambda *_: ends.append(time.process_time()))
        return ends[-1] - ends[0], 32 * (len(ends) - 1)

    return once


def smollm2(folder: Path) -> Path:
    """A random checkpoint of SmolLM2-135M's shape. The tokenizer is pocket's, for its end token."""
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    torch.manual_seed(0)
    config = LlamaConfig(**shape, num_key_value_heads=3, vocab_size=49_152, tie_word_embeddings=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASES / "student-llama").save_pretrained(folder)
    return folder


def piece(name: str, scratch: Path):
    teacher = BASES / "teacher"
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    asked = [tokenizer(prompt)["input_ids"] for prompt, _ in sums(16)]
    long = [random.Random(n).choices(range(4, 500), k=110) for n in range(8)]
    return {
        "engine, pocket": lambda: engine_piece(teacher, asked, 16, 128, "float32"),
        "engine, SmolLM2": lambda: engine_piece(smollm2(scratch), long, 16, 32, "bfloat16"),
        "update, pocket": lambda: update_piece(teacher, asked, 16, (20, 38), torch.float32),
        "update, SmolLM2": lambda: update_piece(smollm2(scratch), long[:4], 8, (20, 38), torch.float32),
        "SFT, pocket": lambda: sft_piece(teacher, sums(256)),
        "reward model, pocket": lambda: reward_model_piece(teacher, sums(128)),
    }[name]()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        once = piece(sys.argv[1], Path(scratch))
        once()
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.process_time()
            done = once()
            cpu, amount = done if isinstance(done, tuple) else (time.process_time() - started, done)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(json.dumps({"cpu": cpu, "amount": amount, "peak MiB": peak}), flush=True)


if __name__ == "__main__":
    main()
