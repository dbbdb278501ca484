"""A newcomer's first hour at smoke size: own bases, tokenizers, questions and reward, and the profile of `make new`.

The bases, a Qwen2 and a Llama model, are pretrained here for a few seconds, each with a tokenizer of its own: one has a
chat template and no padding token, the other a padding token and no template. The profile is used as `make new` writes
it.
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from gguf import GGUFReader
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from data_recipes.pocket.corpus import CorpusSettings, documents
from pipeline.core.manifest import Manifest
from pipeline.ladder import LADDER

ROOT = Path(__file__).parents[2]
BASES = {
    "qwen": (Qwen2Config, {"eos_token": "<|endoftext|>"}, ["<|endoftext|>", "<|fim_pad|>"]),
    "llama": (LlamaConfig, {"eos_token": "</s>", "bos_token": "<s>", "pad_token": "<pad>"}, ["<s>", "</s>", "<pad>"]),
}
"""Name -> (configuration, tokens that the tokenizer names, its control tokens)."""
SHAPE = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 128, "max_position_embeddings": 512,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}User: {{ m['content'] }}"
    "{% else %} Assistant:{% generation %}{{ m['content'] }}<|endoftext|>{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} Assistant:{% endif %}"
)
SMALL_TALK = CorpusSettings(textbook_share=0, drill_share=0, general_share=1, reasoned_share=0)
PRETRAINING_STEPS = 150
REWARD = """
def brevity(completions, completion_ids, **columns):
    return [1 / (1 + len(ids)) for ids in completion_ids]
"""


def own_texts(count: int) -> list[tuple[str, str]]:
    """(prompt, continuation) of documents as a newcomer's corpus may have them: sums, reasoned in both shapes or
    answered at once, and as much small talk of the pocket world, which the later stages of `smoke` ask about."""
    random_numbers = random.Random(0)
    talk = (document for document in documents(SMALL_TALK, 0) if "".join(document).isascii())
    texts = []
    for place in range(count // 2):
        a, b = random_numbers.randrange(200), random_numbers.randrange(7)
        reasoned = f"<think>{a} + {b} = {a + b}</think>"
        answer = (f"{reasoned}<answer>{a + b}</answer>", f"{reasoned}{a + b}", f" {a + b}")[place % 3]
        texts += [(f"User: What is {a} + {b} ? Assistant:", answer), next(talk)]
    return texts


def own_base(folder: Path, name: str) -> None:
    """Pretrains a tiny base with a tokenizer of its own for a few seconds."""
    kind, named, control = BASES[name]
    texts = own_texts(2000)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=control, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([part for text in texts for part in text], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    end = tokenizer.convert_tokens_to_ids(named["eos_token"])
    # Each part for itself, as the ladder has them: `:<` would be one token.
    rows = [[*tokenizer(prompt)["input_ids"], *tokenizer(answer)["input_ids"], end] for prompt, answer in texts]
    longest = max(map(len, rows))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        kind(**SHAPE, vocab_size=len(tokenizer), eos_token_id=end, bos_token_id=None, tie_word_embeddings=True)
    )
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for step in range(PRETRAINING_STEPS):
        batch = rows[step * 32 % len(rows) :][:32]
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in batch])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for row in batch])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    if name == "qwen":
        tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def pipeline(folder: Path, *arguments: str, **options) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=1800, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The newcomer's folder after `make new`, `make check` and `make all`."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in BASES:
        own_base(folder / "models" / name, name)
    rows = [{"problem": f"What is {n} + {n % 7} ?", "solution": f"Count on.\n#### {n + n % 7}"} for n in range(200)]
    (folder / "math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "exam.csv").write_text(
        "Question,Answer\n" + "".join(f"What is {n} + 3 ?,{n + 3}\n" for n in range(200, 208))
    )
    (folder / "my_rewards.py").write_text(REWARD)
    pipeline(
        folder, "new", "mine", "--base", "models/qwen", "--students", "llama=models/llama", "--data", "math.jsonl",
        "--exam", "exam.csv", "--reward", "my_rewards.py:brevity", "--hardware", "cpu", "--like", "smoke",
    )  # fmt: skip
    pipeline(folder, "check", "--profile", "mine")
    pipeline(folder, "run", "all", "--profile", "mine")
    return folder


def test_every_stage_is_done_with_the_profile_as_it_was_written(folder):
    manifests = {stage.id: Manifest.read(folder / "runs" / "mine" / stage.id) for stage in LADDER}
    assert all(manifests.values())
    tokenizers = yaml.safe_load((folder / "configs" / "mine.yaml").read_text())["stages"]["base_model"]["tokenizers"]
    assert "chat_template" not in tokenizers["teacher"] and tokenizers["llama"]["chat_template"] == "chatml"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_own_questions_are_trained_with_their_answers_and_the_own_reward(folder):
    stage = folder / "runs" / "mine" / "r1_zero"
    asked = {row["prompt"] for path in (stage / "rollouts").iterdir() for row in lines(path)}
    assert asked and all(re.fullmatch(r"User: What is \d+ \+ \d \? Assistant:", text) for text in asked)
    records = lines(stage / "metrics.jsonl")
    assert all(isinstance(record["rewards"]["accuracy"], float) for record in records)
    assert sum(sum(record["verdicts"]["accuracy"].values()) for record in records) == 4 * 16
    assert all(record["rewards"]["brevity"] > 0 for record in records)


def test_own_questions_are_measured(folder):
    stage = folder / "runs" / "mine" / "r1_zero"
    assert {row["set"] for row in lines(stage / "heldout.jsonl")} == {"reasoning"}
    asked = {row["question"] for path in (stage / "heldout").iterdir() for row in lines(path)}
    assert len(asked) == 4 and asked <= {f"What is {n} + 3 ?" for n in range(200, 208)}
    assert (folder / "runs" / "mine" / "report" / "report.html").stat().st_size > 10_000


def test_what_came_out_is_exported_and_talked_to(folder):
    exported = pipeline(folder, "export", "llama", "--profile", "mine")
    [gguf] = folder.rglob("*.gguf")
    weights = load_file(
        folder / "runs" / "mine" / "distill" / "students" / "llama" / "checkpoint" / "model.safetensors"
    )
    written = GGUFReader(gguf).tensors
    assert sum(tensor.n_elements for tensor in written) == sum(tensor.numel() for tensor in weights.values())
    assert "Exported" in exported
    said = pipeline(folder, "chat", "distill/llama", "--profile", "mine", input="What is 3 + 4 ?\n")
    assert said.strip() and "<|im_end|>" not in said
