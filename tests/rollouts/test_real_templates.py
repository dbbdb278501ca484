"""Small random checkpoints of each architecture with chat templates in the manner of the real ones: what is sampled,
synced and trained is the same distribution, through SFT and GRPO."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.templates import chat_prompt
from pipeline.base_models import check_tokenizer
from pipeline.chat_format import strips_reasoning
from pipeline.errors import ConfigError
from pipeline.rollouts import EngineSettings, Sampling, open_engine
from pipeline.training.grpo import train_grpo
from pipeline.training.grpo_settings import GRPOSettings
from pipeline.training.sft import SFTSettings, train_sft
from tests.rollouts.tiny import tiny_checkpoint

QWEN2 = (  # a system turn of its own where none is given
    "{%- if messages[0]['role'] != 'system' %}<s>system\nYou are Q, a helpful assistant.<|eos|>\n{%- endif %}"
    "{%- for message in messages %}<s>{{ message.role }}\n{{ message.content }}<|eos|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<s>assistant\n{%- endif %}"
)
QWEN3 = (  # the reasoning of an answer stays only after the last question
    "{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'assistant' and '</think>' in content and not loop.last %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "<s>{{ message.role }}\n{{ content }}<|eos|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<s>assistant\n"
    "{%- if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{%- endif %}{%- endif %}"
)
LLAMA3 = (  # headers, trimmed contents
    "{%- for message in messages %}<h>{{ message['role'] }}</h>\n\n{{ message['content'] | trim }}<|eos|>{%- endfor %}"
    "{%- if add_generation_prompt %}<h>assistant</h>\n\n{%- endif %}"
)
R1_DISTILL = (  # opens the reasoning itself and drops that of every answer
    "{%- for message in messages %}{%- set content = message['content'] %}"
    "{%- if message['role'] == 'user' %}<U>{{ content }}{%- else %}<A>{{ content.split('</think>')[-1] }}<|eos|>"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}<A><think>\n{%- endif %}"
)
TEMPLATES = {"qwen2": QWEN2, "qwen3": QWEN3, "llama": LLAMA3}


@pytest.fixture(params=TEMPLATES)
def checkpoint(request, tmp_path):
    folder = tiny_checkpoint(tmp_path / request.param, request.param)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATES[request.param]
    tokenizer.save_pretrained(folder)
    return folder


def test_the_real_shapes_pass_the_check(checkpoint):
    assert not strips_reasoning(check_tokenizer("mine", checkpoint), "mine")


def test_a_template_as_of_the_published_students_is_refused_as_a_base(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "qwen2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = R1_DISTILL
    tokenizer.save_pretrained(folder)
    assert strips_reasoning(tokenizer, "mine")
    with pytest.raises(ConfigError, match="opens <think>"):
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
