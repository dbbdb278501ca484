"""Students made of a base: a layer cut keeps the named layers, a conversion keeps the function."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from data_recipes.pocket.bases import base_folder
from pipeline.core.causal_lm import load_causal_lm
from pipeline.core.errors import ConfigError
from pipeline.models.shapes import shape_of
from pipeline.models.sources import check_base, count_parameters, fetch_base
from pipeline.models.surgery import chosen_layers, cut_layers
from tests.pipeline.engines.tiny import tiny_checkpoint

LLAMA, QWEN3 = base_folder("student-llama"), base_folder("teacher")
IDS = torch.arange(2, 42).view(2, 20)


def loaded(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@torch.no_grad()
def logits(folder):
    return loaded(folder)(IDS).logits


def test_a_llama_as_qwen2_gives_the_same_logits(tmp_path):
    fetch_base(f"as-qwen2:folder:{LLAMA}", tmp_path / "out", "float32")
    assert loaded(tmp_path / "out").config.architectures == ["Qwen2ForCausalLM"]
    torch.testing.assert_close(logits(tmp_path / "out"), logits(LLAMA), rtol=0, atol=1e-6)


def test_a_converted_model_keeps_its_tied_head(tmp_path):
    parameters = fetch_base(f"as-qwen2:folder:{LLAMA}", tmp_path / "out", "float32")
    config = loaded(LLAMA).config
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    biases = config.num_hidden_layers * heads * (config.hidden_size // config.num_attention_heads)
    assert parameters == count_parameters(LLAMA) + biases


def test_only_a_llama_becomes_a_qwen2(tmp_path):
    with pytest.raises(ConfigError, match="qwen3"):
        fetch_base(f"as-qwen2:folder:{QWEN3}", tmp_path / "out", "float32")


@pytest.mark.parametrize("architecture", ["student-llama", "student-qwen", "teacher"])
def test_a_cut_model_computes_with_the_named_layers_alone(tmp_path, architecture):
    fetch_base(f"cut:0,2:pocket:{architecture}", tmp_path / "out", "float32")
    whole = loaded(base_folder(architecture))
    whole.model.layers = torch.nn.ModuleList([whole.model.layers[0], whole.model.layers[2]])
    whole.config.num_hidden_layers = 2
    with torch.no_grad():
        torch.testing.assert_close(logits(tmp_path / "out"), whole(IDS, use_cache=False).logits)


@pytest.mark.parametrize(
    ("architecture", "changes", "layers"),
    [
        ("deepseek_v3", {"num_mtp_layers": 1}, [1, 2]),
        ("deepseek_v3", {"num_mtp_layers": 1, "first_k_dense_replace": 2}, [0, 2]),
        ("deepseek_v3", {"num_mtp_layers": 1, "first_k_dense_replace": 9}, [1, 2]),
        ("qwen3_moe", {"decoder_sparse_step": 2}, [1, 2]),
        ("qwen3_moe", {"mlp_only_layers": [1]}, [1, 2]),
    ],
)
def test_layers_of_experts_stay_what_they_are_wherever_they_come_to_stand(tmp_path, architecture, changes, layers):
    start = tiny_checkpoint(tmp_path / "start", architecture, num_hidden_layers=3, **changes)
    shutil.copytree(start, tmp_path / "out")
    cut_layers(tmp_path / "out", ",".join(map(str, layers)))
    whole, cut = (load_causal_lm(folder).eval() for folder in (start, tmp_path / "out"))
    whole.model.layers = torch.nn.ModuleList(
        [*(whole.model.layers[index] for index in layers), *whole.model.layers[3:]]
    )
    whole.config.num_hidden_layers = 2
    kept = [{name: weight.shape for name, weight in model.named_parameters()} for model in (whole, cut)]
    assert kept[0] == kept[1]
    with torch.no_grad():
        torch.testing.assert_close(cut(IDS, use_cache=False).logits, whole(IDS, use_cache=False).logits)
    if architecture == "deepseek_v3":
        shape = shape_of(f"cut:{','.join(map(str, layers))}:folder:{start}")
        assert shape == shape_of(f"folder:{tmp_path / 'out'}")
        assert shape.parameters == count_parameters(tmp_path / "out")


def test_a_cut_and_converted_model_is_one_source(tmp_path):
    fetch_base("as-qwen2:cut:2:pocket:student-llama", tmp_path / "out", "float32")
    assert loaded(tmp_path / "out").config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("text", "layers"), [("0-2,9", [0, 1, 2, 9]), ("4", [0, 3, 6, 9]), ("10", list(range(10))), ("7-7", [7])]
)
def test_layers_are_named_by_ranges_or_by_number(text, layers):
    assert chosen_layers(text, 10) == layers


@pytest.mark.parametrize("text", ["", "1-", "3,1", "0,0", "5-3", "0-10", "1", "11", "a"])
def test_layers_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigError, match="cut:"):
        chosen_layers(text, 10)


def test_a_bad_cut_is_found_before_anything_is_fetched():
    with pytest.raises(ConfigError, match="expected layers"):
        check_base("cut:x:hub:nobody/nothing")
    with pytest.raises(ConfigError, match="cut:LAYERS:SOURCE"):
        check_base("cut:3")


def test_another_model_in_the_middle_of_a_source_changes_its_fingerprint(tmp_path):
    from pipeline.runs.identity import referenced_files

    shutil.copytree(LLAMA, tmp_path / "mine")
    source = f"as-qwen2:cut:0-1:folder:{tmp_path / 'mine'}"
    assert referenced_files({"student": source}) == [(source, tmp_path / "mine")]
