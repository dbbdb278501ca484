"""Settings of adapters: what they may be put on, and how one section serves a whole profile."""

import pytest
import yaml
from pydantic import ValidationError

from pipeline.checks.models import adapters_of
from pipeline.config.loading import load_profile
from pipeline.config.lora import LoRASettings
from pipeline.config.profile import Profile
from pipeline.config.stages import RewardModelStage, RLStage, SFTStage
from pipeline.core.errors import ConfigError
from pipeline.ladder import STAGES
from pipeline.runs.identity import resolved_config


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_adapters_of_head_and_embeddings_are_refused(name):
    with pytest.raises(ValidationError, match="every linear layer but the head"):
        LoRASettings(target_modules=["q_proj", name])


def test_adapters_of_named_layers_are_taken():
    assert LoRASettings(target_modules=["q_proj", "up_proj"]).target_modules == ["q_proj", "up_proj"]


def test_one_section_serves_every_stage_that_trains():
    profile = load_profile("pocket", ["lora={rank: 4, alpha: 8}"]).profile
    trained = profile.stages.of(RLStage | SFTStage | RewardModelStage)
    found = dict(adapters_of(profile))
    assert {key.split(".")[1] for key in found} == set(trained)
    assert set(map(LoRASettings.model_dump_json, found.values())) == {LoRASettings(rank=4, alpha=8).model_dump_json()}


def test_a_stage_wins_over_the_profile_key_by_key_and_null_trains_all_weights():
    overrides = ["lora={rank: 4, alpha: 8}", "stages.distill.sft.lora={rank: 2}", "stages.general_rl.grpo.lora=null"]
    stages = load_profile("pocket", overrides).profile.stages
    assert stages.distill.sft.lora == LoRASettings(rank=2, alpha=8)
    assert stages.general_rl.grpo.lora is None
    assert stages.r1_zero.grpo.lora == LoRASettings(rank=4, alpha=8)


def test_reward_models_take_the_profiles_adapters_unquantised():
    stages = load_profile("pocket", ["lora={rank: 4, quantize: nf4}"]).profile.stages
    assert stages.r1_zero.grpo.lora.quantize == stages.sft.sft.lora.quantize == "nf4"
    assert stages.reward_model.lora == LoRASettings(rank=4)


def test_adapters_leave_every_other_key_alone():
    plain, adapted = load_profile("pocket").profile, load_profile("pocket", ["lora={rank: 4}"]).profile
    without = adapted.model_dump(mode="json")
    del without["lora"]
    for place in (*(without["stages"][name]["grpo"] for name in plain.stages.of(RLStage)),
                  *(without["stages"][name]["sft"] for name in plain.stages.of(SFTStage)),
                  without["stages"]["reward_model"]):  # fmt: skip
        assert place["lora"]["rank"] == 4
        place["lora"] = None
    assert without == plain.model_dump(mode="json")


@pytest.mark.parametrize("stage", ["r1_zero", "sft", "reward_model"])
def test_a_stages_identity_does_not_depend_on_where_its_adapters_are_written(stage):
    inside = {"r1_zero": "grpo.lora", "sft": "sft.lora", "reward_model": "lora"}[stage]
    above = load_profile("pocket", ["lora={rank: 4}"]).profile
    beside = load_profile("pocket", [f"stages.{stage}.{inside}={{rank: 4}}"]).profile
    assert resolved_config(above, STAGES[stage]) == resolved_config(beside, STAGES[stage])


def test_a_profile_that_is_written_down_reads_as_itself():
    profile = load_profile("pocket", ["lora={rank: 4}", "stages.sft.sft.lora=null"]).profile
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_a_mistake_in_the_section_is_told_once_and_where_it_stands(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "pocket", "name": "mine", "lora": {"rank": 0}}))
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{path}: 'lora.rank' is 0.")
