"""The planner: its arithmetic against the memory table, the paper, and a run that was made (`measured_pocket.json`)."""

import json
from pathlib import Path

import pytest

from pipeline.checks import measured
from pipeline.checks.fit import overfull
from pipeline.checks.plan import best_plans, layouts, limits, planned
from pipeline.checks.plan_experts import PAPERS_HOURS, PUBLISHED_COSTS, hours_apart_from_memory, server_size
from pipeline.checks.plan_tables import print_plan
from pipeline.config.loading import load_profile
from pipeline.config.parallel import ParallelSettings
from pipeline.core.errors import ConfigError
from pipeline.models import memory
from pipeline.models.accelerators import ACCELERATORS, GIB, RATES
from pipeline.models.shapes import PUBLISHED, shape_of
from pipeline.models.speed import Survival
from pipeline.runs.folder import RunFolder

H100 = ACCELERATORS["h100"]
SHARDED = ParallelSettings(shard="fsdp2")
RUN = json.loads(Path(__file__).with_name("measured_pocket.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def seven():
    return load_profile("qwen2.5-7b").profile


@pytest.fixture
def pocket_run(tmp_path, monkeypatch) -> RunFolder:
    """The figures of a pocket run on two cores, as the run's folder holds them."""
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    for stage, recorded in RUN.items():
        (tmp_path / "made" / stage).mkdir(parents=True)
        rows = [json.dumps(dict(zip(recorded["keys"], step, strict=True))) for step in recorded["steps"]]
        (tmp_path / "made" / stage / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    return RunFolder("made", "pocket")


def device(shards: int, **parallel) -> memory.Device:
    return memory.Device("cuda", shards, 80 * GIB, shards, ParallelSettings(shard="fsdp2", **parallel))


@pytest.mark.parametrize("shards", [2, 8, 64])
def test_shards_divide_weights_and_optimizer_and_add_what_is_gathered(shards):
    shape = PUBLISHED["Qwen/Qwen2.5-7B"]
    one, many = device(1), device(shards)
    assert memory.policy_bytes(shape, None, "bfloat16", many) == 16 * shape.parameters / shards
    assert memory.policy_bytes(shape, None, "bfloat16", one) == 16 * shape.parameters
    assert memory.gathered_bytes(shape, None, "bfloat16", one) == 0
    assert memory.gathered_bytes(shape, None, "bfloat16", many) > 2 * shape.layer_parameters
    wider = device(shards, gather="float32")
    assert memory.gathered_bytes(shape, None, "bfloat16", wider) > memory.gathered_bytes(shape, None, "bfloat16", many)


def test_copies_hold_larger_shards():
    shape = PUBLISHED["Qwen/Qwen2.5-7B"]
    assert device(8, copies=2).shards == 4
    assert memory.policy_bytes(shape, None, "bfloat16", device(8, copies=2)) == 4 * shape.parameters


def test_full_weights_of_7b_need_shards(seven):
    """On eight GPUs of 80 GB, without the reward models of the last round."""
    full = seven.stages.r1_zero.model_copy(
        update={"grpo": seven.stages.r1_zero.grpo.model_copy(update={"lora": None, "beta": 0.001})}
    )
    shape = shape_of(seven.stages.base_model.teacher)
    whole = memory.Device("cuda", 8, 80 * GIB, 8)
    assert memory.spread(memory.rl_estimate(shape, seven, full, whole).total, whole)
    assert not memory.spread(memory.rl_estimate(shape, seven, full, device(8)).total, device(8))


@pytest.mark.parametrize(
    ("name", "trainers", "gpus", "servers"), [("qwen2.5-7b-full", 8, 8, 0), ("qwen2.5-32b", 16, 32, 4)]
)
def test_profiles_with_all_weights_fit_the_way_they_say_they_are_run(name, trainers, gpus, servers):
    profile = load_profile(name).profile
    assert profile.stages.r1_zero.grpo.lora is None and profile.parallel == SHARDED
    assert overfull(profile, trainers) == []
    [quickest, *_] = sorted(best_plans(profile, H100, gpus)[0], key=lambda plan: plan.hours)
    assert (quickest.layout.trainers, quickest.layout.servers) == (trainers, servers)
    assert getattr(profile.engine, "servers", 0) == servers
    assert quickest.layout.gpus_per_server == getattr(profile.engine, "gpus_per_server", 1)


def test_the_plan_says_what_the_memory_table_says(seven):
    for layout in layouts(seven, H100, 8):
        if layout.trainers == 8 and layout.parallel == SHARDED:
            break
    for stage in planned(seven, H100, layout).stages:
        section = getattr(seven.stages, stage.stage)
        source = seven.stages.base_model.teacher if stage.stage != "student_rl" else "hub:Qwen/Qwen2.5-1.5B"
        expected = memory.rl_estimate(shape_of(source), seven, section, device(8))
        assert stage.memory["in all"] == pytest.approx(expected.total)
        assert stage.memory["weights, gradients, optimizer"] == expected.weights


def test_layouts_divide_the_batches_and_use_no_more_gpus_than_there_are(seven):
    found = list(layouts(seven, H100, 12))
    assert {layout.trainers for layout in found} == {1, 2, 4, 8}
    assert max(layout.trainers + layout.servers * layout.gpus_per_server for layout in found) <= 12


def test_more_gpus_are_never_slower(seven):
    hours = [min(plan.hours for plan in best_plans(seven, H100, gpus)[0]) for gpus in (8, 16, 32)]
    assert hours == sorted(hours, reverse=True)


def test_a_stage_takes_its_steps(seven):
    [plan, *_] = best_plans(seven, H100, 8)[0]
    for stage in plan.stages:
        section = getattr(seven.stages, stage.stage).grpo
        assert stage.steps == section.max_steps == sum(steps for steps, _ in limits(getattr(seven.stages, stage.stage)))
        assert stage.hours == pytest.approx(stage.step * stage.steps / 3600)
        assert stage.step * section.rollout_steps >= max(stage.write, stage.update)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.6, 0.95])
def test_lengths_have_the_mean_that_they_are_given(share):
    longest, parts = 4096, 20_000
    survival = Survival(share * longest, longest)
    mean = sum(survival((part + 0.5) * longest / parts) for part in range(parts)) * longest / parts
    assert mean == pytest.approx(share * longest, rel=0.01)


def test_the_papers_r1_zero_is_predicted_within_a_factor_of_two():
    profile, gpu = load_profile("paper").profile, ACCELERATORS["h800"]
    costs = PUBLISHED_COSTS["deepseek-ai/DeepSeek-V3-Base"]
    hours = hours_apart_from_memory(costs, profile.stages.r1_zero, gpu, 512, server_size(costs, gpu), RATES)
    assert PAPERS_HOURS / 512 / 2 <= hours <= PAPERS_HOURS / 512 * 2


def test_the_papers_model_is_sent_elsewhere(capsys):
    print_plan(load_profile("paper").profile, None, 512, "h800")
    told = " ".join(capsys.readouterr().out.split())
    assert "671 billion weights" in told and "prime-rl, verl or slime" in told and "does not train it" in told


def test_rates_of_one_stage_predict_steps_and_memory_of_the_others(pocket_run, monkeypatch):
    """A pocket run on two cores; rates from every other step of R1-Zero."""
    monkeypatch.setattr(measured.Manifest, "read", lambda folder: None)
    profile = load_profile("pocket", ["engine.kv_cache_gib=1"]).profile  # as it was made
    _, stages = measured.compare_with_run(profile, pocket_run)
    assert [one.stage for one in stages] == list(RUN)
    for one in stages:
        assert one.ratio == pytest.approx(1, abs=0.25), one
        assert one.predicted_memory == pytest.approx(RUN[one.stage]["peak_memory_bytes"], rel=0.15)


def test_fitting_finds_the_rates_that_made_the_steps():
    shape, made = shape_of("pocket:teacher"), measured.FittedRates(0.01, 2e-11, 3e-10)
    steps = [
        {"completion_tokens_max": 20 + n, "rollout_tokens": 900 * n, "forward_tokens": 1000 * n,
         "trained_tokens": 700 * n} for n in range(1, 20)
    ]  # fmt: skip
    for step in steps:
        step |= {"seconds_rollout": made.write(shape, step), "seconds_update": made.update(shape, step)}
    found = measured.fit(shape, steps)
    assert found.longest_token == pytest.approx(made.longest_token)
    assert found.written_operation == pytest.approx(made.written_operation)
    assert found.trained_operation == pytest.approx(made.trained_operation)


def test_a_run_with_few_steps_is_refused_with_what_it_lacks(pocket_run):
    for metrics in pocket_run.path.glob("*/metrics.jsonl"):
        metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(ConfigError, match="1 steps of RL to fit rates on, and 8 are needed"):
        measured.compare_with_run(load_profile("pocket").profile, pocket_run)


def test_json_holds_what_is_printed(seven, capsys):
    print_plan(seven, None, 8, "h100", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["gpus"] == 8 and told["gpu"]["gib"] == 80 and told["assumed"]["update_use"] == RATES.update_use
    assert told["plans"] and all(plan["gpus"] <= 8 and plan["stages"] for plan in told["plans"])


def test_every_constant_is_printed(seven, capsys):
    print_plan(seven, None, 8, "a100")
    told = capsys.readouterr().out
    for name in (*RATES.__dataclass_fields__, *H100.__dataclass_fields__):
        assert name in told


@pytest.mark.parametrize(("gpus", "gpu", "part"), [(0, "h100", "GPUS=0"), (8, "h1000", "known are")])
def test_wrong_gpus_are_told(seven, gpus, gpu, part):
    with pytest.raises(ConfigError, match=part):
        print_plan(seven, None, gpus, gpu)


def test_what_fits_in_no_way_is_said_with_reasons(capsys):
    profile = load_profile("qwen2.5-7b", ["stages.r1_zero.grpo.lora=null"]).profile
    print_plan(profile, None, 1, "rtx4090")
    assert "a trainer takes" in capsys.readouterr().out
