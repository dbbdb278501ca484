"""What is exported loads elsewhere and says the same: GGUF in llama.cpp and in transformers, a Modelfile, a card."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from data_recipes.pocket.bases import base_folder
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.manifest import Manifest
from pipeline.export.folder import export, upload
from pipeline.export.gguf import write_gguf
from pipeline.export.model_card import model_card
from pipeline.export.modelfile import modelfile, turns_of
from pipeline.models.gguf_tokenizer import NAMES, pre_tokenizer, pre_tokenizer_name, read_gguf_tokenizer
from pipeline.models.tokenizer import adjust_tokenizer
from pipeline.runs.folder import RunFolder
from tests.pipeline.engines.tiny import tiny_checkpoint

BASES = ("teacher", "student-qwen", "student-llama")  # Qwen3, Qwen2 and Llama, heads tied
PROMPTS = ("User: What is 12+7-3? Assistant:", "User: 你是谁？ Assistant:", "User: Write about a cat. Assistant:")
IDS = torch.arange(2, 62).view(2, 30)


def exported(checkpoint, folder):
    write_gguf(checkpoint, folder / "model.gguf", "test")
    return folder / "model.gguf"


def greedy(checkpoint, prompt: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
    return tokenizer.decode(out, skip_special_tokens=True)


@pytest.fixture
def llama_cpp():
    """Opens a GGUF file in llama.cpp."""
    import xllamacpp

    servers = []

    def opened(file):
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel, params.warmup = str(file), 256, 1, False
        params.cpuparams.n_threads = 1
        params.use_jinja = True
        servers.append(xllamacpp.Server(params))
        return servers[-1]

    yield opened
    servers.clear()


@pytest.mark.parametrize("name", BASES)
def test_llama_cpp_writes_what_transformers_writes(name, tmp_path, llama_cpp):
    server = llama_cpp(exported(base_folder(name), tmp_path))
    for prompt in PROMPTS:
        out = server.handle_completions({"prompt": prompt, "max_tokens": 40, "temperature": 0})
        assert out["choices"][0]["text"] == greedy(base_folder(name), prompt)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_transformers_reads_the_same_logits_back(architecture, dtype, tmp_path):
    """Untied heads too: the Llama checkpoint has one."""
    folder = tiny_checkpoint(tmp_path / "model", architecture)
    original = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    original.save_pretrained(folder)
    file = exported_with_known_cut(folder, tmp_path)
    options = {"config": original.config} if architecture == "qwen3" else {}  # transformers leaves its head size at 128
    back = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **options
    )
    with torch.no_grad():
        torch.testing.assert_close(back(IDS).logits, original.float()(IDS).logits, rtol=1e-4, atol=1e-4)


def exported_with_known_cut(folder, out):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer("gpt-2")
    tokenizer.save_pretrained(folder)
    return exported(folder, out)


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_that_is_read_back_writes_the_same_ids(name, tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "qwen3")
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer(name)
    tokenizer.backend_tokenizer.model.ignore_merges = name == "llama-bpe"
    tokenizer.save_pretrained(folder)
    back = read_gguf_tokenizer(exported(folder, tmp_path))
    for text in (*PROMPTS, "<think>I'm at 1234.5,  twice\n\n</think>It's done <|eos|>"):
        assert back(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (back.eos_token, back.pad_token, back.chat_template) == ("<|eos|>", "<|pad|>", tokenizer.chat_template)


@pytest.mark.parametrize("name", NAMES)
def test_a_known_cut_is_told_by_its_rules(name):
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer(name)
    assert pre_tokenizer_name(tokenizer) == name


def test_llama_cpp_counts_the_tokens_that_the_tokenizer_does(tmp_path, llama_cpp):
    server = llama_cpp(exported(base_folder("teacher"), tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    for text in (*PROMPTS, "<think>I'm at 1234.5,  twice\n\n</think>It's done."):
        usage = server.handle_completions({"prompt": text, "max_tokens": 1, "temperature": 0})["usage"]
        assert usage["prompt_tokens"] == len(tokenizer(text)["input_ids"])


def test_an_unknown_cut_is_refused(tmp_path):
    from tokenizers import pre_tokenizers

    folder = tiny_checkpoint(tmp_path / "model", "qwen3")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match="cuts text in a way"):
        exported(folder, tmp_path)


@pytest.mark.parametrize("template", ["chatml", "llama3"])
def test_the_modelfile_writes_turns_as_the_chat_template_does(template):
    from pipeline.config.tokenizer import TokenizerSettings

    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    tokenizer.bos_token = "<|eos|>"
    adjust_tokenizer(tokenizer, TokenizerSettings(chat_template=template))
    turns = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    assert turns_of(tokenizer).render(turns) == tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )


def test_the_modelfile_names_file_template_and_end():
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    text = modelfile("m.gguf", tokenizer, None, 0.6, 0.95, 256)
    assert text.startswith("FROM ./m.gguf\n")
    assert 'TEMPLATE """{{ range .Messages }}{{ if eq .Role "user" }}User: {{ .Content }}{{ else if' in text
    assert text.count("{{ end }}") == 2 + text.count("{{ if .System }}")
    assert 'PARAMETER stop "<|eos|>"\n' in text
    assert "PARAMETER top_k 0\nPARAMETER repeat_penalty 1\n" in text
    assert "{{ .Prompt }} Assistant:" in modelfile("m.gguf", tokenizer, "User: {question} Assistant:", 0.6, 0.95, 256)


def test_the_modelfile_writes_a_system_message_where_the_chat_template_does():
    from pipeline.config.tokenizer import TokenizerSettings

    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    adjust_tokenizer(tokenizer, TokenizerSettings(chat_template="chatml"))
    text = modelfile("m.gguf", tokenizer, None, 0.6, 0.95, 256)
    assert "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ range .Messages }}" in text


def test_words_that_ollama_would_take_for_its_own_are_refused():
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '{{' if m.role == 'user' else 'A:' }}{{ m.content }}|{% endfor %}"
        "{% if add_generation_prompt %}A:{% endif %}"
    )
    with pytest.raises(ConfigError, match="braces"):
        modelfile("m.gguf", tokenizer, None, 0.6, 0.95, 256)


def test_the_plain_prompt_adds_no_full_stop():
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    assert "User: {{ .Prompt }} A:" in modelfile("m.gguf", tokenizer, "User: {question}. A:", 0.6, 0.95, 256)


def test_a_template_that_changes_turns_is_refused_for_ollama():
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    tokenizer.chat_template = "{% for m in messages %}{{ loop.index }}:{{ m['content'] }}<|eos|>{% endfor %}A:"
    with pytest.raises(ConfigError, match="does not write each turn between fixed words"):
        turns_of(tokenizer)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path / "runs")
    return RunFolder("test", "pocket")


def test_an_export_for_the_hub_loads_and_has_a_card(run):
    folder = export(load_profile("pocket").profile, run, str(base_folder("student-qwen")), "hf")
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "qwen2"
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("library_name: transformers", "license: ", "outside its runs", "Not measured", "SHA-256 `"):
        assert part in card
    assert "## Base" not in card and "pocket_arithmetic" not in card


def test_adapters_are_exported_alone_and_compute_what_the_merged_checkpoint_does(run, tmp_path):
    from peft import PeftModel

    from pipeline.config.lora import LoRASettings
    from tests.pipeline.training.test_sft import fine_tune

    base = base_folder("student-qwen")
    tokenizer = AutoTokenizer.from_pretrained(base)
    fine_tune(tokenizer, tmp_path, lora=LoRASettings(rank=4), learning_rate=1e-2)
    folder = export(load_profile("pocket").profile, run, str(tmp_path / "checkpoint"), "adapter")
    ids = tokenizer("What is 1 + 2 ?", return_tensors="pt").input_ids
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-4)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in card and f"LoRA adapters of `{base}`" in card
    assert "`adapter_model.safetensors`: SHA-256" in card
    with pytest.raises(ConfigError, match="trained with all its weights"):
        export(load_profile("pocket").profile, run, str(base), "adapter")


@pytest.mark.parametrize(
    ("name", "adapted"),
    [("r1-zero", "me/base"), ("distill/small", "runs/test/base_model/students/small"), ("student-rl", "me/small"),
     ("general-rl", "runs/test/sft/checkpoint")],
)  # fmt: skip
def test_exported_adapters_name_what_they_belong_to(run, name, adapted):
    from pipeline.export.folder import _adapted

    students = "{small: 'folder:x', other: 'hub:me/small'}"
    overrides = ["stages.base_model.teacher=hub:me/base", f"stages.base_model.students={students}"]
    profile = load_profile("pocket", [*overrides, "stages.student_rl.student=other"]).profile
    assert _adapted(profile, run, name).endswith(adapted)


def test_an_export_for_ollama_holds_file_modelfile_and_card(run):
    folder = export(load_profile("pocket").profile, run, str(base_folder("student-llama")), "gguf")
    assert sorted(path.name for path in folder.iterdir()) == ["Modelfile", "README.md", "test-student-llama.gguf"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: gguf" in card
    assert "`test-student-llama.gguf`: SHA-256" in card


def test_the_card_of_a_stage_names_what_its_stages_used_and_stale_figures(run):
    """The run's stages are made up: a manifest each, and an evaluation of another r1_zero."""
    shared = {
        "profile": "pocket", "config_hash": "0" * 64, "outputs": {}, "records": {}, "packages": {}, "seed": 0,
        "code": {"commit": "c", "dirty": False}, "device": "cpu", "wall_seconds": 1, "peak_memory_bytes": 1,
        "tokens": {}, "metrics": {},
    }  # fmt: skip
    questions = {"questions": {"sums": [{"use": "pocket_arithmetic"}]}}
    for stage, config, inputs in (("r1_zero", questions, {}), ("evaluate", {}, {"r1_zero": "another"})):
        run.stage(stage).mkdir(parents=True)
        Manifest(stage=stage, config=config, inputs=inputs, **shared).write(run.stage(stage))
    figures = {
        "pass@1": 0.5, "low": 0.4, "high": 0.6, "questions": 1, "samples": 1, "format": 1, "mean_tokens": 9,
        "truncated": 0,
    }  # fmt: skip
    sampling = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 9}
    found = {"settings": {"sampling": sampling, "seed": 0}, "results": {"R1-Zero": {"sums": figures}}}
    (run.stage("evaluate") / "results.json").write_text(json.dumps(found))
    card = model_card(load_profile("pocket").profile, run, "r1-zero", base_folder("teacher"), base_folder("teacher"))
    assert "- sums: `pocket_arithmetic`\n" in card
    assert card.count("- sums") == 1 and "- code_" not in card
    assert "measured on an earlier checkpoint" in card


def test_a_checkpoint_that_lacks_weights_is_refused_and_leaves_nothing(run, tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "qwen3")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ConfigError, match="lacks"):
        export(load_profile("pocket").profile, run, str(folder), "gguf")
    assert not list((run.path / "export").iterdir())


def test_a_missing_layer_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tiny_checkpoint(tmp_path / "model", "qwen3")
    (file,) = folder.glob("*.safetensors")
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 of .*model\.layers\.1\.mlp\.up_proj\.weight"):
        exported(folder, tmp_path)


def test_merges_that_llama_cpp_would_read_otherwise_are_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", "qwen3")
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer("llama-bpe")
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match="ignore_merges False"):
        exported(folder, tmp_path)


def test_a_model_that_writes_no_text_is_refused_under_the_variable_that_named_it(run, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen3ForSequenceClassification"]}')
    with pytest.raises(ConfigError, match=r"STUDENT=.*Qwen3ForSequenceClassification"):
        export(load_profile("pocket").profile, run, str(tmp_path), "hf")


def test_an_unknown_format_is_refused(run):
    with pytest.raises(ConfigError, match="FORMAT=onnx"):
        export(load_profile("pocket").profile, run, str(base_folder("teacher")), "onnx")


def test_an_upload_makes_a_private_repository_and_sends_the_folder(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, name, **k: calls.append((name, k)))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **k: calls.append(k) or "https://hub/x")
    assert upload(tmp_path, "me/model", private=True) == "https://hub/x"
    assert calls[0] == ("me/model", {"private": True, "exist_ok": True})
    assert calls[1]["folder_path"] == tmp_path


def test_a_refused_upload_says_what_to_check(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("403 Forbidden")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(RunError, match=r"403 Forbidden.*right to write"):
        upload(tmp_path, "me/model", private=True)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    with pytest.raises(RunError, match="could not be written: OSError"):
        upload(tmp_path, "me/model", private=True)
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        upload(tmp_path, "model", private=True)
