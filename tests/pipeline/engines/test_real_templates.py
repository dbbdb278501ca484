"""Small random checkpoints of each architecture with the chat templates of the real models: what is sampled, synced and
trained is the same distribution, through SFT and GRPO."""

import copy
from pathlib import Path

import pytest
import torch
import trl
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.templates import chat_prompt
from pipeline.config.grpo import GRPOSettings
from pipeline.config.sft import SFTSettings
from pipeline.core.errors import ConfigError
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.models.chat_format import strips_reasoning
from pipeline.models.sources import check_tokenizer
from pipeline.training.grpo.run import train_grpo
from pipeline.training.sft import train_sft
from tests.pipeline.engines.tiny import VOCABULARY, tiny_checkpoint

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
"""The published models' own, as TRL carries them to recognise a model by."""
REAL = {
    "qwen2": ("qwen2_5", "<|im_end|>", None),
    "qwen3": ("qwen3", "<|im_end|>", None),
    "llama": ("llama3", "<|eot_id|>", "<|begin_of_text|>"),
}
"""Architecture -> its template, the token that ends an answer with it, and the one that begins a text."""
MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"]


def with_template(folder, architecture: str, template: str, eos: str, bos: str | None = None):
    """A tiny checkpoint whose tokenizer has the template and its marks as tokens of their own."""
    tiny_checkpoint(folder, architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS}, replace_extra_special_tokens=False)
    tokenizer.eos_token, tokenizer.bos_token = eos, bos
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    tiny_checkpoint(folder, architecture, vocab_size=VOCABULARY + 32, eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=REAL)
def checkpoint(request, tmp_path):
    return with_template(tmp_path / request.param, request.param, *REAL[request.param])


def test_the_real_templates_pass_the_check(checkpoint):
    assert not strips_reasoning(check_tokenizer("mine", checkpoint), "mine")


def test_the_template_of_the_published_students_is_refused_as_a_base(tmp_path):
    """It opens the reasoning itself and drops that of every answer."""
    folder = with_template(tmp_path / "model", "qwen2", "deepseek_r1_distill", "<|im_end|>", "<|begin_of_text|>")
    assert strips_reasoning(AutoTokenizer.from_pretrained(folder), "mine")
    with pytest.raises(ConfigError, match="opens <think>"):
        check_tokenizer("mine", folder)


def test_an_end_that_is_not_the_templates_is_refused(tmp_path):
    folder = with_template(tmp_path / "model", "llama", "llama3", "<|im_end|>", "<|begin_of_text|>")
    with pytest.raises(ConfigError, match=r"Set eos_token: '<\|eot_id\|>'"):
        check_tokenizer("mine", folder)


def fine_tuned(checkpoint, output):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    asked = [chat_prompt(tokenizer, f"What is {n}+1?") for n in range(8)]
    train_sft(
        model_path=checkpoint,
        tokenizer=tokenizer,
        prompts=asked,
        responses=[f"<think>{n}+1={n + 1}</think>{n + 1}" for n in range(8)],
        settings=SFTSettings(epochs=6, learning_rate=5e-3, batch_size=4, rows_per_device=4, max_tokens=256),
        output=output,
        seed=0,
        device="cpu",
        dtype="float32",
        on_step=lambda *_: None,
    )
    return output / "checkpoint", asked


def test_sampled_synced_and_trained_log_probabilities_agree(checkpoint, tmp_path):
    """From SFT through the chat template to sampling: the trained checkpoint is served, updated in place and synced."""
    trained, asked = fine_tuned(checkpoint, tmp_path / "sft")
    settings = EngineSettings(kind="transformers", dtype="float32", max_model_len=256)
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    with open_engine(settings, trained, AutoTokenizer.from_pretrained(trained), 0) as engine:
        for policy in (model, changed):
            engine.sync_weights(policy)
            for prompt, group in zip(asked, engine.generate(asked, 2, Sampling(max_tokens=24, seed=1)), strict=True):
                for completion in group:
                    expected = logprobs(policy, engine.encode(prompt), completion.token_ids)
                    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=2e-4)


@torch.no_grad()
def logprobs(model, prompt: list[int], completion: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + completion])
    rows = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(completion)[:, None])[:, 0]


def test_grpo_on_chat_prompts_trains_what_was_sampled(checkpoint, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    lines = []
    served = EngineSettings(kind="transformers", dtype="float32", max_model_len=256)
    with open_engine(served, checkpoint, tokenizer, 0) as engine:
        train_grpo(
            model_path=checkpoint,
            tokenizer=tokenizer,
            dataset=[{"prompt": chat_prompt(tokenizer, f"{n}?")} for n in range(4)],
            settings=GRPOSettings(
                prompts_per_step=2, group_size=4, rollout_prompts=None, max_steps=3, learning_rate=0.01, beta=0.0,
                max_completion_tokens=16, max_completion_schedule=[],
            ),
            engine=engine,
            reward_functions=[lambda completions, **_: [float(len(text) % 3) for text in completions]],
            reward_weights=[1.0],
            output_dir=tmp_path / "rl",
            seed=0,
            dtype="float32",
            log=lines.append,
        )  # fmt: skip
    assert len(lines) == 3
    assert all(line["sampler_gap_max"] < 1e-3 for line in lines)
    assert any(line["grad_norm"] > 0 for line in lines)
