"""How processes share a model: what a profile may say, and what so many processes cannot do."""

import pytest

from pipeline.checks.profile import check_processes
from pipeline.config.loading import load_profile
from pipeline.config.lora import LoRASettings
from pipeline.config.parallel import ParallelSettings
from pipeline.core.errors import ConfigError
from pipeline.ladder import LADDER
from pipeline.runs.identity import resolved_config
from pipeline.training.sharding import shard_arguments

NF4 = LoRASettings(quantize="nf4")


@pytest.mark.parametrize(
    ("processes", "settings", "shards"),
    [(8, {}, 1), (1, {"shard": "fsdp2"}, 1), (8, {"shard": "fsdp2"}, 8), (8, {"shard": "fsdp2", "copies": 2}, 4)],
)
def test_models_are_in_as_many_shards_as_processes_hold_a_copy(processes, settings, shards):
    assert ParallelSettings(**settings).shards(processes) == shards


@pytest.mark.parametrize(
    ("processes", "settings", "part"),
    [
        (8, {"copies": 3}, "parallel.copies is 3, which 8 processes cannot hold"),
        (2, {"copies": 2}, "parallel.copies is 2, which 2 processes cannot hold"),
        (2, {}, "stages.sft.sft.lora.quantize is nf4"),
    ],
)
def test_what_is_not_done_in_shards_is_named_with_its_mend(processes, settings, part):
    parallel = ParallelSettings(shard="fsdp2", **settings)
    adapters = {} if settings else {"stages.sft.sft": NF4, "stages.distill.sft": LoRASettings()}
    [fault] = parallel.faults(processes, adapters)
    assert part in fault and "Set " in fault
    assert parallel.faults(1, adapters) == []
    assert ParallelSettings().faults(processes, adapters) == []


def test_check_and_run_refuse_it_before_anything_starts():
    said = ["parallel.shard=fsdp2", "stages.reasoning_rl.grpo.lora={quantize: nf4}"]
    profile = load_profile("smoke", said).profile
    check_processes(profile, 1)
    with pytest.raises(ConfigError, match=r"stages\.reasoning_rl\.grpo\.lora\.quantize is nf4"):
        check_processes(profile, 2)


def test_a_training_refuses_it_too(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="quantize is nf4"):
        shard_arguments(ParallelSettings(shard="fsdp2"), NF4)
    assert shard_arguments(ParallelSettings(), NF4) == {}


def test_no_stage_depends_on_how_processes_share_its_model():
    whole, shards = (load_profile("smoke", said).profile for said in ([], ["parallel={shard: fsdp2, copies: 2}"]))
    for stage in LADDER:
        assert resolved_config(whole, stage) == resolved_config(shards, stage)


@pytest.mark.parametrize("said", ["parallel.shard=zero3", "parallel.copies=0", "parallel.tensor=2"])
def test_other_ways_are_refused_by_name(said):
    with pytest.raises(ConfigError, match=said.partition("=")[0].removeprefix("parallel.")):
        load_profile("smoke", [said])
