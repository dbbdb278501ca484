"""Unusual bases: mended when they are fetched, named by `check`, or refused by it, before a run."""

import importlib.util
import json
import types

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, GenerationConfig

from pipeline.checks.models import check_models, model_notes
from pipeline.config.engine import Sampling
from pipeline.config.grpo import GRPOSettings
from pipeline.config.loading import load_profile
from pipeline.config.tokenizer import TEMPLATES, TokenizerSettings
from pipeline.core import limited as limits
from pipeline.core.causal_lm import load_causal_lm
from pipeline.core.errors import ConfigError
from pipeline.core.fp8 import quantised
from pipeline.core.generation import settle_generation
from pipeline.core.tokens import load_tokenizer, prompt_ids
from pipeline.engines import EngineSettings, open_engine
from pipeline.models import chat_format
from pipeline.models.sources import check_tokenizer, fetch_base
from pipeline.training.grpo.run import train_grpo
from tests.pipeline.engines.tiny import tiny_checkpoint

CHATML = (TEMPLATES / "chatml.jinja").read_text(encoding="utf-8").replace("<|im_end|>", "<|eos|>")


def base(folder, architecture="qwen2", template=CHATML, **changes):
    tiny_checkpoint(folder, architecture, **changes)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def say(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def profile_with(folder, *overrides):
    return load_profile("smoke", [f"stages.base_model.teacher=folder:{folder}", *overrides]).profile


@pytest.mark.parametrize(
    "told",
    [{"temperature": 0.7}, {"top_p": 0.8, "top_k": 20}, {"temperature": 0.6, "do_sample": False}, {"num_beams": 0}],
    ids=str,
)
def test_a_generation_config_that_transformers_would_not_save_can_be_saved(tmp_path, told):
    folder = base(tmp_path / "model")
    say(folder / "generation_config.json", eos_token_id=[1, 5], **told)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config = GenerationConfig(eos_token_id=[1, 5], **told)
    settle_generation(model)
    model.save_pretrained(tmp_path / "saved")
    load_causal_lm(folder).save_pretrained(tmp_path / "in the middle of a training")
    assert json.loads((tmp_path / "saved/generation_config.json").read_text())["eos_token_id"] == [1, 5]
    fetch_base(f"cut:0,1:folder:{folder}", tmp_path / "cut", "float32")


@pytest.mark.parametrize(
    ("rows", "template", "refused"),
    [(512, CHATML, False), (511, CHATML, True), (4, CHATML, True)],
    ids=["as long", "a word too long", "nearly none"],
)
def test_tokens_past_the_embedding_are_refused(tmp_path, rows, template, refused):
    folder = base(tmp_path / "model", template=template)
    say(folder / "config.json", vocab_size=rows)
    if refused:
        with pytest.raises(ConfigError, match=rf"only {rows} tokens"):
            check_tokenizer("mine", folder)
    else:
        check_tokenizer("mine", folder)


def test_a_control_token_past_the_embedding_matters_where_it_is_written(tmp_path):
    folder = base(tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|late|>"]}, replace_extra_special_tokens=False)
    tokenizer.save_pretrained(folder)
    check_tokenizer("mine", folder)  # no text is encoded to it
    tokenizer.chat_template = CHATML.replace("assistant", "<|late|>assistant")
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"'<\|late\|>'"):
        check_tokenizer("mine", folder)


def test_a_system_prompt_may_speak_of_the_tag(tmp_path):
    spoken = "First write <think>, then answer. " + CHATML
    check_tokenizer("mine", base(tmp_path / "model", template=spoken))
    opened = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    with pytest.raises(ConfigError, match="opens <think>"):
        check_tokenizer("mine", base(tmp_path / "other", template=opened))


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_tokens_are_added_with_rows_of_their_own(tmp_path, architecture):
    """Qwen2's head is its embedding and stays so; Llama's is another matrix and grows as well."""
    folder = base(tmp_path / "model", architecture)
    tokens = ["<|fill|>", "<search>", "</search>"]
    settings = TokenizerSettings(add_tokens=tokens, pad_token="<|fill|>")
    check_tokenizer("mine", folder, settings)
    fetch_base(f"folder:{folder}", tmp_path / "out", "float32", settings)
    tokenizer, model = load_tokenizer(tmp_path / "out"), AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = [tokenizer.convert_tokens_to_ids(token) for token in tokens]
    assert tokenizer.pad_token == "<|fill|>" and prompt_ids(tokenizer, "a<search>b")[1] == ids[1]
    assert model.config.vocab_size == max(ids) + 1
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (embedding.data_ptr() == head.data_ptr()) == (architecture == "qwen2")
    before = load_tokenizer(folder)("<search>", add_special_tokens=False)["input_ids"]
    for matrix in (embedding, head):
        torch.testing.assert_close(matrix[ids[1]], matrix[before].mean(0))
    text = torch.arange(20, 60)[None]
    old = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(model(text).logits[..., : old.config.vocab_size], old(text).logits)


def test_a_base_with_one_special_token_gets_advice_that_works(tmp_path):
    folder = base(tmp_path / "model")
    with pytest.raises(ConfigError) as refused:
        check_tokenizer("mine", folder, TokenizerSettings(pad_token="<|fill|>"))
    assert 'add_tokens: ["<|fill|>"]' in str(refused.value)
    assert "<|eos|>" not in str(refused.value).partition("such as")[2]
    check_tokenizer("mine", folder, TokenizerSettings(pad_token="<|fill|>", add_tokens=["<|fill|>"]))


@pytest.mark.parametrize("temperature", [0.001, 2.5])
def test_temperatures_that_engines_change_or_refuse_are_refused(temperature):
    for make in (
        lambda: Sampling(max_tokens=1, temperature=temperature),
        lambda: GRPOSettings(temperature=temperature),
    ):
        with pytest.raises(ValidationError, match="not sampled as it says"):
            make()
    assert Sampling(max_tokens=1, temperature=0).temperature == 0


def test_heads_that_vllm_has_no_kernel_for_are_refused(tmp_path, monkeypatch):
    folder = base(tmp_path / "model", num_attention_heads=4, num_key_value_heads=2)
    if importlib.util.find_spec("vllm") is None:  # its backend, by what it says of itself
        backend = types.SimpleNamespace(get_supported_head_sizes=lambda: [32, 64])
        module = types.SimpleNamespace(CPUAttentionBackend=backend)
        monkeypatch.setitem(__import__("sys").modules, "vllm.v1.attention.backends.cpu_attn", module)
    with pytest.raises(ConfigError, match=r"heads of 16 numbers.*engine\.kind: transformers"):
        check_models(profile_with(folder, "engine.kind=vllm"))
    check_models(profile_with(folder, "engine.kind=transformers"))


def test_what_packing_cannot_compute_is_named_and_trained_unpacked(tmp_path):
    folder = base(tmp_path / "model", use_sliding_window=True, sliding_window=8, max_window_layers=1)
    assert any("sliding_attention" in note and "packing" in note for note in model_notes(profile_with(folder)))
    lines, tokenizer = [], load_tokenizer(folder)
    served = EngineSettings(kind="transformers", dtype="float32", max_model_len=128)
    with open_engine(served, folder, tokenizer, 0) as engine:
        train_grpo(
            model_path=folder,
            tokenizer=tokenizer,
            dataset=[{"prompt": f"What comes after {n} and before {n + 2}?"} for n in range(4)],
            settings=GRPOSettings(
                prompts_per_step=2, group_size=4, rollout_prompts=None, max_steps=2, learning_rate=0.01, beta=0.0,
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
    assert len(lines) == 2 and all(line["sampler_gap_max"] < 1e-3 for line in lines)


FOREIGN = {
    "looks for ways out": ("{{ ''.__class__.__mro__ }}", r"cannot be rendered: SecurityError"),
    "changes what it is given": ("{{ messages.append(1) }}", r"cannot be rendered: SecurityError"),
    "takes its time": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "more than 1 s",
    ),
    "goes on and on": ("{{ 'word ' * 2001 }}", "10,005 characters"),
    # Freed memory that a process still holds is no address space beyond it, and a fork has that of all tests before.
    "fills memory": ("{{ ('a' * 800000000) | length }}", "more memory than it may"),
}


@pytest.mark.parametrize(("template", "refused"), FOREIGN.values(), ids=FOREIGN)
def test_a_template_that_comes_with_a_model_is_held_in_limits(tmp_path, monkeypatch, template, refused):
    monkeypatch.setattr(chat_format, "RENDERING_S", 1)
    monkeypatch.setattr(chat_format, "LONGEST", 10_000)
    monkeypatch.setattr(limits, "MEMORY_BYTES", 32 << 20)
    with pytest.raises(ConfigError, match=refused):
        check_tokenizer("mine", base(tmp_path / "model", template=template))


@pytest.mark.parametrize(("kind", "original", "refused"), [("dynamic", 64, True), ("dynamic", 4096, False),
                                                           ("yarn", 64, False)])  # fmt: skip
def test_rotary_embeddings_that_follow_the_longest_text_of_a_batch_are_refused(tmp_path, kind, original, refused):
    rope = {"rope_type": kind, "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": original}
    folder = base(tmp_path / "model", rope_parameters=rope, max_position_embeddings=4096)
    profile = profile_with(folder)
    if refused:
        with pytest.raises(ConfigError, match=f"has {kind} rotary embeddings"):
            check_models(profile)
    else:
        check_models(profile)


def in_block_fp8(folder, block=(16, 16)):
    """The checkpoint with the weights of its layers as DeepSeek-V3 publishes its own, in two files."""
    weights = load_file(folder / "model.safetensors")
    stored = dict(weights)
    for name, weight in weights.items():
        if "proj" in name and weight.dim() == 2:
            stored[name], stored[name + "_scale_inv"] = quantised(weight, *block)
    files = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for name, tensor in stored.items():
        files[list(files)[name.endswith("_scale_inv") and "mlp" in name]][name] = tensor
    for file, tensors in files.items():
        save_file(tensors, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, tensors in files.items() for name in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    how = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(block)}
    say(folder / "config.json", quantization_config=how)
    return weights


def test_a_base_in_block_fp8_is_made_plain_as_transformers_makes_it(tmp_path):
    folder = base(tmp_path / "model")
    weights = in_block_fp8(folder)
    check_models(profile_with(folder))
    parameters = fetch_base(f"folder:{folder}", tmp_path / "plain", "float32")
    assert parameters == sum(weight.numel() for weight in weights.values())
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=FineGrainedFP8Config(dequantize=True)
    )
    assert not hasattr(ours.config, "quantization_config")
    wanted = theirs.state_dict()
    differing = 0
    for name, weight in ours.state_dict().items():
        assert torch.allclose(weight, wanted[name].float(), rtol=2**-8, atol=0), name  # theirs may go by bfloat16
        differing += not torch.equal(weight, weights.get(name, weight))
    assert differing == 7 * ours.config.num_hidden_layers


def test_fp8_values_without_scales_are_refused(tmp_path):
    folder = base(tmp_path / "model")
    in_block_fp8(folder)
    file = folder / "model-00002-of-00002.safetensors"
    save_file({"other": torch.zeros(1)}, file)
    with pytest.raises(ConfigError, match=r"has no .*_scale_inv"):
        fetch_base(f"folder:{folder}", tmp_path / "plain", "float32")
