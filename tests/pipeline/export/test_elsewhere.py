"""One model everywhere: what an export computes, where it ends, and how its reasoning is shown, in other programs."""

import json
from pathlib import Path

import pytest
import torch
import trl
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_recipes.pocket.bases import base_folder
from pipeline.config.loading import load_profile
from pipeline.config.tokenizer import TEMPLATES
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import load_tokenizer
from pipeline.export.folder import export
from pipeline.export.gguf import write_gguf
from pipeline.export.modelfile import modelfile, turns_of
from pipeline.export.older_transformers import write_old_names
from pipeline.export.reasoning import with_reasoning
from pipeline.models.gguf_tokenizer import CONTROL, USER_DEFINED, pre_tokenizer
from pipeline.models.sources import fetch_base
from pipeline.runs.folder import RunFolder
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.test_sft import PROMPTS, RESPONSES, fine_tune

PUBLISHED = Path(trl.__file__).parent / "chat_templates"
TEMPLATE_FILES = [*TEMPLATES.glob("*.jinja"), *(PUBLISHED / f"{name}.jinja" for name in ("qwen2_5", "qwen3", "llama3")),
                  base_folder("teacher") / "chat_template.jinja"]  # fmt: skip
IDS = torch.arange(20, 80).view(2, 30)


def say(file, **values):
    told = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(told | values))


def known_cut(folder):
    """The folder with a cut that GGUF files can name, and a chat template."""
    tokenizer = load_tokenizer(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer("gpt-2")
    tokenizer.chat_template = (TEMPLATES / "chatml.jinja").read_text().replace("<|im_end|>", "<|eos|>")
    tokenizer.save_pretrained(folder)
    return folder


def written(folder, out, **options):
    write_gguf(folder, out / "model.gguf", "test", **options)
    return out / "model.gguf"


@torch.no_grad()
def logits(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS).logits


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("qwen3", {}),
        ("llama", {}),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                       "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}),
        ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    ],
    ids=["heads of another size", "no first token", "scaled rotations", "another base"],
)  # fmt: skip
def test_an_export_is_a_base_again(tmp_path, architecture, changes):
    folder = known_cut(tiny_checkpoint(tmp_path / "model", architecture, **changes))
    file = written(folder, tmp_path)
    fetch_base(f"gguf:{file}", tmp_path / "back", "float32")
    torch.testing.assert_close(logits(tmp_path / "back"), logits(folder), rtol=1e-4, atol=1e-4)
    text = "<think>I'm 12</think> so <|eos|>"
    assert load_tokenizer(tmp_path / "back")(text)["input_ids"] == load_tokenizer(folder)(text)["input_ids"]


@pytest.fixture
def own_head(tmp_path):
    """A checkpoint with a head of its own whose configuration says that it has none."""
    folder = known_cut(tiny_checkpoint(tmp_path / "own", "llama"))
    say(folder / "config.json", tie_word_embeddings=True)
    return folder


def test_a_head_of_its_own_reaches_gguf_and_conversions(tmp_path, own_head):
    expected = logits(own_head)
    assert any(tensor.name == "output.weight" for tensor in GGUFReader(written(own_head, tmp_path)).tensors)
    fetch_base(f"gguf:{tmp_path / 'model.gguf'}", tmp_path / "back", "float32")
    torch.testing.assert_close(logits(tmp_path / "back"), expected, rtol=1e-4, atol=1e-4)
    for source in (f"folder:{own_head}", f"as-qwen2:folder:{own_head}", f"cut:0,1:folder:{own_head}"):
        fetch_base(source, tmp_path / "fetched", "float32")
        assert json.loads((tmp_path / "fetched/config.json").read_text())["tie_word_embeddings"] is False
        torch.testing.assert_close(logits(tmp_path / "fetched"), expected, rtol=1e-4, atol=1e-4)


def test_every_end_token_reaches_gguf_and_modelfile(tmp_path):
    folder = known_cut(tiny_checkpoint(tmp_path / "model", "qwen3"))
    say(folder / "generation_config.json", eos_token_id=[1, 300, 301])
    fields = GGUFReader(written(folder, tmp_path)).fields
    found = [fields[f"tokenizer.ggml.{role}_token_id"].contents() for role in ("eos", "eot", "eom")]
    assert found == [1, 300, 301]
    fetch_base(f"gguf:{tmp_path / 'model.gguf'}", tmp_path / "back", "float32")
    assert json.loads((tmp_path / "back/generation_config.json").read_text())["eos_token_id"] == [1, 300, 301]
    text = modelfile("m.gguf", load_tokenizer(folder), None, 0.6, 0.95, 256, ["<|eos|>", "unused300"])
    assert text.count("PARAMETER stop") == 2 and 'PARAMETER stop "unused300"\n' in text
    say(folder / "generation_config.json", eos_token_id=[1, 300, 301, 302])
    with pytest.raises(ConfigError, match="4 tokens"):
        written(folder, tmp_path)


def test_the_tags_of_reasoning_are_tokens_that_are_shown(tmp_path):
    fields = GGUFReader(written(known_cut(tiny_checkpoint(tmp_path / "model", "qwen3")), tmp_path)).fields
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert kinds[:4] == [CONTROL, CONTROL, USER_DEFINED, USER_DEFINED]


@pytest.mark.parametrize("file", TEMPLATE_FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_template_writes_the_reasoning_of_the_answer_to_the_last_question(file):
    tokenizer = load_tokenizer(base_folder("teacher"))
    tokenizer.bos_token, tokenizer.chat_template = "<|eos|>", file.read_text(encoding="utf-8")
    ask, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "the answer"}
    plain = tokenizer.apply_chat_template([ask, answer, ask], tokenize=False, add_generation_prompt=True)
    tokenizer.chat_template = with_reasoning(tokenizer)
    assert tokenizer.apply_chat_template([ask, answer, ask], tokenize=False, add_generation_prompt=True) == plain
    thought = {**answer, "reasoning_content": "my thought"}
    told = tokenizer.apply_chat_template([ask, thought], tokenize=False)
    assert "".join(told.partition("<think>")[2].split()).startswith("mythought</think>theanswer")
    assert with_reasoning(tokenizer) == tokenizer.chat_template


@pytest.mark.parametrize("file", TEMPLATE_FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_ollama_writes_turns_as_the_template_does(file):
    tokenizer = load_tokenizer(base_folder("teacher"))
    tokenizer.bos_token, tokenizer.chat_template = "<|eos|>", file.read_text(encoding="utf-8")
    said = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    turns = [{"role": role, "content": content} for role, content in said]
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert turns_of(tokenizer).render(turns) == expected
    assert "<think>{{ .Thinking }}</think>" in modelfile("m.gguf", tokenizer, None, 0.6, 0.95, 256)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path / "runs")
    return RunFolder("test", "pocket")


def test_llama_cpp_tells_reasoning_from_answer(run, tmp_path):
    import xllamacpp

    fine_tune(load_tokenizer(base_folder("student-qwen")), tmp_path, epochs=8)
    folder = export(load_profile("pocket").profile, run, str(tmp_path / "checkpoint"), "gguf")
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = str(*folder.glob("*.gguf")), 256, 1, False
    params.cpuparams.n_threads, params.use_jinja = 1, True
    question = PROMPTS[0].removeprefix("User: ").removesuffix(" Assistant:")
    asked = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 60}
    reply = xllamacpp.Server(params).handle_chat_completions(asked)["choices"][0]["message"]
    reasoning, _, answer = RESPONSES[0].removeprefix("<think>").partition("</think>")
    assert (reply["reasoning_content"].strip(), reply["content"].strip()) == (reasoning, answer)


def test_a_folder_for_the_hub_says_what_transformers_4_reads(run, tmp_path):
    folder = known_cut(
        tiny_checkpoint(tmp_path / "model", "qwen2", rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    )
    profile = load_profile("pocket").profile
    out = export(profile, run, str(folder), "hf")
    config = json.loads((out / "config.json").read_text())
    assert (config["rope_theta"], config["rope_scaling"], config["torch_dtype"]) == (1e6, None, "float32")
    assert config["rope_parameters"]["rope_theta"] == 1e6
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not isinstance(tokenizer.get("extra_special_tokens"), list)
    torch.testing.assert_close(logits(out), logits(folder), rtol=0, atol=0)
    text = "<think>1</think> a<|eos|>"
    assert load_tokenizer(out)(text)["input_ids"] == load_tokenizer(folder)(text)["input_ids"]
    assert load_file(out / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()
    newer = export(profile, run, str(folder), "hf", transformers4=False)
    assert "rope_theta" not in json.loads((newer / "config.json").read_text())


def test_scaled_rotations_are_told_to_transformers_4(tmp_path):
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}
    folder = tiny_checkpoint(tmp_path / "model", "llama", rope_parameters=rope)
    write_old_names(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == 5e5 and config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
