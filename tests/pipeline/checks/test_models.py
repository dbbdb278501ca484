"""What `make check` finds out about models: templates, end tokens, the Hub's answers, memory."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.pocket.bases import base_folder
from pipeline.checks.models import _check_heads, _check_replay, check_models, memory_table, model_notes
from pipeline.checks.profile import rule_mistakes
from pipeline.config.loading import load_profile
from pipeline.config.lora import LoRASettings
from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.buffers import kept_tensors
from pipeline.core.errors import ConfigError
from pipeline.models import memory, sources
from pipeline.models.chat_format import strips_reasoning
from pipeline.models.hub import look_at_hub
from pipeline.models.shapes import PUBLISHED, shape_of
from pipeline.models.sources import check_base, check_tokenizer, count_parameters
from pipeline.training.flops import ModelFlops
from tests.pipeline.engines.tiny import tiny_checkpoint

TURN = "{% if add_generation_prompt %}Answer:{% endif %}"
PREFILLED = (
    "{% for m in messages %}{{ m['content'] }}<|eos|>{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
)
STRIPPED = "{% for m in messages %}{{ m['content'].split('</think>')[-1] }}<|eos|>{% endfor %}" + TURN


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(base_folder("student-llama"), tmp_path / "mine")
    return tmp_path / "mine"


def with_template(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_template_that_opens_think_is_refused_with_the_fix(folder):
    with pytest.raises(ConfigError, match=r"opens <think> before the model writes.*chat_template"):
        check_tokenizer("mine", with_template(folder, PREFILLED))


def test_a_template_that_ends_answers_with_another_token_is_refused_with_the_token_to_set(folder):
    template = "{% for m in messages %}{{ m['content'] }}</answer>{% endfor %}" + TURN
    with pytest.raises(ConfigError, match="Set eos_token: '</answer>'"):
        check_tokenizer("mine", with_template(folder, template))


def test_the_profiles_end_token_settles_it(folder):
    template = "{% for m in messages %}{{ m['content'] }}</answer>{% endfor %}" + TURN
    tokens = TokenizerSettings(eos_token="</answer>")
    assert check_tokenizer("mine", with_template(folder, template), tokens).eos_token == "</answer>"


def test_a_template_without_the_assistants_words_is_refused(folder):
    template = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}" + TURN
    with pytest.raises(ConfigError, match="leaves out what the assistant says"):
        check_tokenizer("mine", with_template(folder, template))


def test_a_template_that_jinja_cannot_read_is_refused(folder):
    with pytest.raises(ConfigError, match="cannot be rendered"):
        check_tokenizer("mine", with_template(folder, "{% for m in %}"))


@pytest.mark.parametrize("template", ["{{ 1 // 0 }}", "{{ messages + 1 }}", "{{ messages[0].no.such }}"])
def test_whatever_a_template_raises_is_an_error_of_the_configuration(folder, template):
    with pytest.raises(ConfigError, match="cannot be rendered"):
        check_tokenizer("mine", with_template(folder, template))


def test_a_template_that_begins_no_turn_is_refused(folder):
    template = "{% for m in messages %}{{ m['content'] }}<|eos|>{% endfor %}"
    with pytest.raises(ConfigError, match="with and without add_generation_prompt"):
        check_tokenizer("mine", with_template(folder, template))


@pytest.mark.parametrize(
    ("template", "note"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "writes no end token"),
        ("{{ strftime_now('%d') }}{% for m in messages %}{{ m['content'] }}<|eos|>{% endfor %}", "today's date"),
    ],
)
def test_an_odd_template_is_noted(folder, template, note):
    with_template(folder, template + TURN)
    profile = load_profile("pocket", [f"stages.base_model.teacher=folder:{folder}"]).profile
    assert any(note in line for line in model_notes(profile))


def test_a_template_that_drops_reasoning_is_named_and_no_error(folder):
    tokenizer = check_tokenizer("mine", with_template(folder, STRIPPED))
    assert strips_reasoning(tokenizer, "mine")
    profile = load_profile("pocket", [f"stages.base_model.teacher=folder:{folder}"]).profile
    check_models(profile)
    assert any("drops the reasoning" in note for note in model_notes(profile))


def test_the_pocket_template_keeps_reasoning():
    assert not strips_reasoning(AutoTokenizer.from_pretrained(base_folder("teacher")), "pocket")


@pytest.fixture
def hub(monkeypatch):
    """A Hub that answers with the error given to it."""
    from huggingface_hub import errors

    def answering(kind):
        import httpx

        request = httpx.Request("HEAD", "https://hub.test/x")

        def answer(*_, **__):
            if kind == "unreachable":
                raise httpx.ConnectError("no route", request=request)
            if kind:
                raise getattr(errors, kind)("refused", response=httpx.Response(403, request=request))

        look_at_hub.cache_clear()
        monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", answer)

    yield answering
    look_at_hub.cache_clear()


@pytest.mark.parametrize(
    ("kind", "message"), [("GatedRepoError", "is gated"), ("RepositoryNotFoundError", "does not exist, or is private")]
)
def test_a_model_that_the_hub_refuses_is_an_error_of_its_own(hub, kind, message):
    hub(kind)
    with pytest.raises(ConfigError, match=message):
        check_base("hub:some/model")


def test_a_hub_that_cannot_be_reached_is_a_warning(hub):
    hub("unreachable")
    assert "cannot be reached" in check_base("hub:some/model")


def test_a_hub_name_without_its_owner_is_refused():
    with pytest.raises(ConfigError, match="hub:OWNER/NAME"):
        check_base("hub:gpt2")


def test_a_model_on_the_hub_will_be_fetched(hub):
    hub(None)
    assert "will be fetched" in check_base("hub:some/model")


@pytest.mark.parametrize("name", ["teacher", "student-qwen", "student-llama"])
def test_a_shape_gives_the_parameters_that_are_stored(name):
    assert shape_of(f"pocket:{name}").parameters == count_parameters(base_folder(name))


@pytest.mark.parametrize(  # as the models' cards state them, in billions
    ("name", "billions"),
    [("deepseek-ai/DeepSeek-V2-Lite", 15.7), ("moonshotai/Moonlight-16B-A3B", 16.0),
     ("Qwen/Qwen3-30B-A3B-Base", 30.5), ("allenai/OLMoE-1B-7B-0924", 6.92),
     ("HuggingFaceTB/SmolLM2-135M", 0.1345),
     ("Qwen/Qwen2.5-0.5B", 0.49), ("Qwen/Qwen2.5-1.5B", 1.54), ("Qwen/Qwen2.5-7B", 7.61), ("Qwen/Qwen2.5-14B", 14.7),
     ("meta-llama/Llama-3.2-1B", 1.23), ("meta-llama/Llama-3.1-8B", 8.03)],
)  # fmt: skip
def test_published_shapes_give_the_published_sizes(name, billions):
    assert PUBLISHED[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("Qwen/Qwen3-30B-A3B-Base", 3.3), ("allenai/OLMoE-1B-7B-0924", 1.28)],
)
def test_published_models_of_experts_use_the_published_part_of_their_weights(name, billions):
    assert PUBLISHED[name].active_parameters / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize("architecture", ["deepseek_v3", "qwen3_moe"])
def test_a_shape_of_experts_gives_what_is_stored_and_what_a_pass_computes(tmp_path, architecture):
    folder = tiny_checkpoint(tmp_path, architecture)
    shape = shape_of(f"folder:{folder}")
    assert shape.parameters == count_parameters(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    flops = ModelFlops(model)
    matrices = shape.active_parameters - sum(p.numel() for p in kept_tensors(model).values() if p.ndim == 1)
    assert flops.body == 2 * (matrices - 2 * shape.embedding_parameters)
    assert flops.attention == 2 * shape.attention_numbers


def test_experts_are_replayed_where_the_engine_tells_them_and_the_base_has_some(tmp_path):
    def checked(*changes):
        chosen = ["stages.base_model.contexts.teacher=512", "stages.r1_zero.grpo.routing_replay=true", *changes]
        _check_replay(load_profile("pocket", chosen).profile)

    experts = f"stages.base_model.teacher=folder:{tiny_checkpoint(tmp_path, 'qwen3_moe')}"
    with pytest.raises(ConfigError, match=r"r1_zero.grpo.routing_replay is on, but the engine 'vllm'.*transformers"):
        checked(experts)
    with pytest.raises(ConfigError, match=r"routing_replay is on, but pocket:\S+ has no experts"):
        checked("engine.kind=transformers")
    checked(experts, "engine.kind=transformers")


def test_latents_that_the_cpu_has_no_kernel_for_are_refused_with_the_mend(tmp_path):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3")
    changes = [f"stages.base_model.teacher=folder:{folder}", "device=cpu"]
    with pytest.raises(ConfigError, match=r"latents of 32 numbers.*engine\.latent_cache: false"):
        _check_heads(load_profile("pocket", changes).profile, f"folder:{folder}", shape_of(f"folder:{folder}"))
    mended = load_profile("pocket", [*changes, "engine.latent_cache=false"]).profile
    _check_heads(mended, f"folder:{folder}", shape_of(f"folder:{folder}"))


def test_the_cache_holds_latents_or_what_is_made_of_them(tmp_path):
    shape = shape_of(f"folder:{tiny_checkpoint(tmp_path, 'deepseek_v3')}")
    assert shape.cached_numbers() == 2 * (16 + 16)
    assert shape.cached_numbers(latent=False) == 2 * 2 * 2 * 32


def test_the_tables_of_a_model_that_is_not_here_still_say_its_size():
    assert shape_of("cut:12:hub:Qwen/Qwen2.5-0.5B").layers == 12


ONE_GPU = memory.Device("cuda", 1, 24 * 2**30)


def test_adapters_take_less_memory_than_all_weights_and_four_bits_less_again():
    shape = PUBLISHED["Qwen/Qwen2.5-7B"]
    full, lora, qlora = (
        memory.policy_bytes(shape, adapters, "bfloat16", ONE_GPU)
        for adapters in (None, LoRASettings(rank=16), LoRASettings(rank=16, quantize="nf4"))
    )
    assert full == 16 * shape.parameters
    assert full / 7 > lora > 3 * qlora


def test_several_gpus_hold_a_buffer_for_gradients_each():
    shape, eight = PUBLISHED["Qwen/Qwen2.5-7B"], memory.Device("cuda", 8, 24 * 2**30, processes=8)
    alone, one_of_eight = (memory.policy_bytes(shape, None, "bfloat16", device) for device in (ONE_GPU, eight))
    assert one_of_eight - alone == 4 * shape.parameters


def test_what_does_not_fit_the_device_is_said_and_no_sharding_promised():
    eight = memory.Device("cuda", 8, 24 * 2**30)
    assert memory.spread(20 * 2**30, eight) == ""
    assert "one GPU of 24.0 GiB holds, and models are not sharded over the 8" in memory.spread(100 * 2**30, eight)
    assert "more than the 1 GPU of 24.0 GiB" in memory.spread(100 * 2**30, ONE_GPU)


def test_memory_is_estimated_for_the_device_that_a_profile_is_made_for():
    profile = load_profile("pocket", ["made_for={gpus: 2, gib: 48}"]).profile
    table = memory_table(profile)
    assert "made for: 2 GPUs of 48.0 GiB" in table.title
    assert "reward_model" in list(table.columns[1].cells)


def test_the_reward_models_of_general_rl_count():
    profile = load_profile("pocket").profile
    shape, stage = shape_of("pocket:teacher"), profile.stages.general_rl
    device = memory.this_device(profile)
    without = stage.model_copy(update={"rewards": stage.rewards[:1]})
    both = (memory.rl_estimate(shape, profile, part, device).reference for part in (stage, without))
    assert next(both) - next(both) == 2 * shape.parameters * memory.NUMBER_BYTES[profile.dtype]


def test_quantised_adapters_without_the_package_are_refused(monkeypatch):
    profile = load_profile("pocket", ["stages.sft.sft.lora={quantize: nf4}"]).profile
    check_models(profile)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"stages\.sft\.sft: lora\.quantize is nf4.*bitsandbytes"):
        check_models(profile)


def test_a_context_of_the_profile_is_written_into_the_configuration(folder, tmp_path):
    sources.fetch_base(f"folder:{folder}", tmp_path / "out", "float32", context=2048)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["max_position_embeddings"] == 2048


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-7b", "qwen2.5-32b", "paper"])
def test_the_profiles_load_and_have_students_of_both_architectures(name):
    students = load_profile(name).profile.stages.base_model.students
    assert any("qwen" in source.lower() for source in students.values())
    assert any("llama" in name for name in students)


@pytest.mark.parametrize(
    ("right", "wrong", "part"),
    [("1 0 1", "0 0 0", "a right answer 0"), ("1 1", "0 1", "the same score"), ("1 –", "0 –", None)],
)
def test_a_rule_that_mistakes_answers_is_told(right, wrong, part):
    told = rule_mistakes(right, wrong)
    assert (part in told) if part else told is None


def test_a_misspelt_module_is_found_before_anything_runs():
    profile = load_profile(
        "smoke", ["stages.sft.sft.lora={target_modules: [q_prj, layers.0.self_attn.v_proj]}"]
    ).profile
    with pytest.raises(ConfigError, match=r"stages\.sft\.sft\.lora\.target_modules names q_prj, .*They have q_proj"):
        check_models(profile)


def test_a_model_of_unknown_layers_is_measured_by_its_published_size():
    profile = load_profile("paper").profile
    table = memory_table(profile)
    [weights, *_], [note, *_] = (list(table.columns[place].cells) for place in (2, 7))
    assert weights == f"{671e9 * 16 / 2**30:.1f}"
    assert "not sharded over the 8" in note
