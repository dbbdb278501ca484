"""`train_grpo` from checkpoint to checkpoint, on the transformers engine; vLLM where it matters."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.config.grpo import GRPOSettings
from pipeline.config.lora import LoRASettings
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.training.grpo.run import train_grpo
from rewards import RewardError, RewardSet, RewardSpec, Verdict
from tests.pipeline.engines.tiny import tiny_checkpoint

QUESTIONS = [{"id": f"q{i}", "prompt": f"What is {i} + {i} ?", "answer": str(2 * i)} for i in range(9)]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("start"), "qwen3")


@pytest.fixture(scope="module")
def engine(start):
    with open_engine(EngineSettings(kind="transformers", dtype="float32", max_model_len=128), start) as engine:
        yield engine


def settings(**changes) -> GRPOSettings:
    return GRPOSettings.model_validate(
        {
            "prompts_per_step": 2,
            "group_size": 4,
            "rollout_prompts": None,
            "max_steps": 4,
            "max_completion_tokens": 8,
            "max_completion_schedule": [],
            "learning_rate": 1e-2,
            "beta": 0.0,
            "checkpoint_every": 2,
            "log_rollouts_every": 1,
        }
        | changes
    )


def multiples_of_three(completion_ids, **_):
    return [sum(token % 3 == 0 for token in ids) / len(ids) for ids in completion_ids]


def run(start, engine, out, chosen, rewards=(multiples_of_three,), weights=None, **more):
    engine.load_weights(start)
    return train_grpo(
        model_path=start,
        tokenizer=AutoTokenizer.from_pretrained(start),
        dataset=more.pop("dataset", QUESTIONS),
        settings=chosen,
        engine=engine,
        reward_functions=list(rewards),
        reward_weights=weights or [1.0] * len(rewards),
        output_dir=out,
        seed=3,
        dtype="float32",
        **more,
    )


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def rollouts(out: Path) -> dict[str, list[dict]]:
    files = sorted((out / "rollouts").iterdir())
    return {f.stem: [json.loads(line) for line in f.read_text().splitlines()] for f in files}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_reward_rises(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_steps=25, prompts_per_step=4, checkpoint_every=25))
    rewards = [line["reward"] for line in metrics(tmp_path)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_what_a_run_leaves_behind(start, engine, tmp_path):
    def half(completions, **_):
        return [0.5 if i % 2 else None for i in range(len(completions))]

    calls = []
    result = run(
        start, engine, tmp_path, settings(), (multiples_of_three, half), [1.0, 0.5], progress=lambda *p: calls.append(p)
    )
    assert calls == [(i, 4) for i in (1, 2, 3, 4)]
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for key in ("reward", "loss", "grad_norm", "learning_rate", "entropy", "zero_spread", "truncated",
                "completion_tokens", "sampler_gap", "seconds_rollout", "seconds_update", "seconds_sync",
                "seconds_scoring", "rollout_tokens_per_second", "update_tokens_per_second"):  # fmt: skip
        assert isinstance(lines[0][key], int | float), key
    assert lines[0]["rewards"]["half"] == 0.5
    assert lines[0]["sampler_gap_max"] < 1e-3
    assert result.steps == 4
    assert result.tokens_generated == sum(line["rollout_tokens"] for line in lines)
    written = rollouts(tmp_path)
    assert list(written) == [f"step-{i:06d}" for i in (1, 2, 3, 4)]
    for rows in written.values():
        assert len(rows) == 8
        assert {row["id"] for row in rows} <= {q["id"] for q in QUESTIONS}
        assert all({"prompt", "completion", "advantage", "tokens", "finish_reason"} <= set(row) for row in rows)
        assert rows[0]["rewards"]["half"] is None
    assert {p.name for p in (tmp_path / "trainer").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    assert tokenizer.eos_token_id == 1
    assert any(not torch.equal(w, weights_of(start)[n]) for n, w in weights_of(tmp_path / "checkpoint").items())


def test_reward_functions_see_columns_text_and_the_step(start, engine, tmp_path):
    seen = []

    def spy(prompts, completions, completion_ids, answer, id, trainer_state, **_):
        seen.append((prompts, completions, answer, id, trainer_state.global_step))
        return [0.0] * len(prompts)

    run(start, engine, tmp_path, settings())
    run(start, engine, tmp_path, settings(), (spy,))
    assert [step for *_, step in seen] == [0, 1, 2, 3]
    for prompts, completions, answers, ids, _ in seen:
        by_id = {q["id"]: q for q in QUESTIONS}
        assert all(
            by_id[i]["prompt"] == p and by_id[i]["answer"] == a for i, p, a in zip(ids, prompts, answers, strict=True)
        )
        assert all(isinstance(text, str) and "<|eos|>" not in text for text in completions)
        assert [ids.count(i) for i in dict.fromkeys(ids)] == [4, 4]


def test_length_limit_changes_at_its_step(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_completion_schedule=[{"from_step": 2, "tokens": 12}]))
    longest = [max(row["tokens"] for row in rows) for rows in rollouts(tmp_path).values()]
    assert longest == [8, 8, 12, 12]


class Stop(Exception):
    pass


@pytest.mark.parametrize("steps_a_rollout", [1, 2])
def test_a_resumed_run_is_the_uninterrupted_run(start, engine, tmp_path, steps_a_rollout):
    """Weights, questions, completions and metrics: with KL, a refreshed reference, Adam and two orders of questions."""
    chosen = settings(
        max_steps=8,
        rollout_prompts=2 * steps_a_rollout,
        beta=0.1,
        reference_refresh_steps=2,
        max_completion_schedule=[{"from_step": 6, "tokens": 10}],
        lr_schedule="linear",
    )
    run(start, engine, tmp_path / "whole", chosen)

    def break_off(record):
        if record["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        run(start, engine, tmp_path / "broken", chosen, log=break_off)
    assert len(metrics(tmp_path / "broken")) == 5
    run(start, engine, tmp_path / "broken", chosen, resume=True)

    whole, resumed = metrics(tmp_path / "whole"), metrics(tmp_path / "broken")
    assert [line["step"] for line in resumed] == list(range(1, 9))
    for a, b in zip(whole, resumed, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4, abs=1e-6)
        assert b["kl"] == pytest.approx(a["kl"], rel=1e-3, abs=1e-6)
        assert b["reward"] == a["reward"]
        assert b["learning_rate"] == a["learning_rate"]
    assert rollouts(tmp_path / "whole") == rollouts(tmp_path / "broken")
    expected = weights_of(tmp_path / "whole" / "checkpoint")
    for name, weight in weights_of(tmp_path / "broken" / "checkpoint").items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name


def test_resume_passes_over_a_checkpoint_that_was_cut_off(start, engine, tmp_path):
    run(start, engine, tmp_path, settings())
    (tmp_path / "trainer" / "checkpoint-4").rename(tmp_path / "trainer" / ".writing")
    run(start, engine, tmp_path, settings(max_steps=6), resume=True)
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_without_resume_a_run_starts_over(start, engine, tmp_path):
    run(start, engine, tmp_path, settings())
    run(start, engine, tmp_path, settings(max_steps=2))
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2]
    assert list(rollouts(tmp_path)) == ["step-000001", "step-000002"]


def test_a_failing_reward_leaves_the_last_whole_step_to_resume_from(start, engine, tmp_path):
    def fails_at_the_fourth_step(completion_ids, trainer_state, **_):
        if trainer_state.global_step == 3:
            raise RewardError("mine.py: brevity gave 'seven'")
        return multiples_of_three(completion_ids)

    with pytest.raises(RewardError, match="brevity"):
        run(start, engine, tmp_path, settings(), rewards=[fails_at_the_fourth_step])
    resumed = []
    result = run(start, engine, tmp_path, settings(), resume=True, log=lambda record: resumed.append(record["step"]))
    assert resumed == [4]
    assert result.steps == 4


def test_first_rollout_after_a_resume_has_the_resumed_weights(start, engine, tmp_path):
    """The engine holds the start weights; completions must come from the checkpoint's."""
    run(start, engine, tmp_path, settings(max_steps=2, learning_rate=0.05))
    engine.load_weights(start)
    run(start, engine, tmp_path, settings(max_steps=3, learning_rate=0.05), resume=True)
    assert metrics(tmp_path)[2]["sampler_gap_max"] < 1e-3


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_reference_becomes_the_policy_at_its_step(start, engine, tmp_path, peft):
    """KL to the reference is zero on the first step after a refresh, and not before."""
    lora = LoRASettings(rank=4) if peft else None
    run(
        start,
        engine,
        tmp_path,
        settings(max_steps=6, beta=0.01, reference_refresh_steps=3, checkpoint_every=3, lora=lora),
    )
    kl = [line["kl"] for line in metrics(tmp_path)]
    assert kl[0] == pytest.approx(0, abs=1e-7)
    assert kl[1] > 1e-5
    assert kl[2] > 1e-5
    assert kl[3] == pytest.approx(0, abs=1e-7)
    assert kl[4] > 1e-5


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_lora_run_saves_a_plain_merged_checkpoint_and_resumes(start, engine, tmp_path, quantize):
    chosen = {"beta": 0.01, "reference_refresh_steps": 2, "learning_rate": 0.05}
    chosen["lora"] = LoRASettings(rank=4, quantize=quantize)
    run(start, engine, tmp_path / "whole", settings(max_steps=4, **chosen))
    run(start, engine, tmp_path / "two", settings(max_steps=2, **chosen))
    run(start, engine, tmp_path / "two", settings(max_steps=4, **chosen), resume=True)
    expected = weights_of(tmp_path / "whole" / "checkpoint")
    assert expected.keys() == weights_of(start).keys()
    for name, weight in weights_of(tmp_path / "two" / "checkpoint").items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name
    assert any(not torch.equal(w, weights_of(start)[n]) for n, w in expected.items())


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_an_adapter_policy_is_sampled_with_the_weights_it_trains(start, engine, tmp_path, quantize):
    lora = LoRASettings(rank=4, quantize=quantize)
    run(start, engine, tmp_path, settings(max_steps=3, learning_rate=0.02, lora=lora))
    assert all(line["sampler_gap_max"] < (1e-3 if quantize == "none" else 0.05) for line in metrics(tmp_path))


def test_the_saved_adapter_on_the_start_model_is_the_saved_checkpoint(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_steps=2, learning_rate=0.05, lora=LoRASettings(rank=4)))
    base = AutoModelForCausalLM.from_pretrained(start)
    merged = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    for (name, one), (_, other) in zip(merged.named_parameters(), saved.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


def test_dropout_in_rl_adapters_is_refused():
    with pytest.raises(ValueError, match=r"set lora\.dropout to 0"):
        settings(lora=LoRASettings(dropout=0.1))


def test_several_steps_on_one_rollout(start, engine, tmp_path):
    """Later slices are off-policy: the ratio moves away from one, and rollouts are made once for them all."""
    run(start, engine, tmp_path, settings(rollout_prompts=8, max_steps=8, checkpoint_every=4, learning_rate=0.05))
    lines = metrics(tmp_path)
    assert [line["rollout_tokens"] > 0 for line in lines] == [True, False, False, False] * 2
    assert [line["rollout_step"] for line in lines] == [1] * 4 + [5] * 4
    assert lines[0]["clip_ratio/region_mean"] == 0
    assert max(line["clip_ratio/region_mean"] for line in lines[1:4]) > 0
    assert all(line["sampler_gap_max"] < 1e-3 for line in lines), "the sampler is compared with the rollout's policy"


def test_truncated_completions_can_be_left_out(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(mask_truncated=True, max_steps=1))
    line, rows = metrics(tmp_path)[0], rollouts(tmp_path)["step-000001"]
    assert line["trained_rows"] == sum(row["finish_reason"] == "stop" for row in rows)


def test_flat_groups_give_way_to_other_questions(start, engine, tmp_path):
    """Questions with an even number get one reward for all completions; with dynamic sampling none of them trains."""

    def even_is_flat(completion_ids, answer, **_):
        return [0.0 if int(a) % 4 == 0 else float(ids[0]) for ids, a in zip(completion_ids, answer, strict=True)]

    run(start, engine, tmp_path / "off", settings(max_steps=8), (even_is_flat,))
    run(start, engine, tmp_path / "on", settings(max_steps=8, dynamic_sampling=8), (even_is_flat,))
    off, on = metrics(tmp_path / "off"), metrics(tmp_path / "on")
    assert sum(line["zero_spread"] for line in off) > 0
    assert [line["zero_spread_after_resampling"] for line in on] == [0] * 8
    assert all(line["trained_rows"] == 8 for line in on)
    for rows in rollouts(tmp_path / "on").values():
        assert all(int(row["id"][1:]) % 2 for row in rows)
        assert len({row["id"] for row in rows}) == 2
    assert sum(line["rollout_tokens"] for line in on) > sum(line["rollout_tokens"] for line in off)


def test_a_rollout_written_ahead_is_as_stale_as_said(start, engine, tmp_path):
    """Each rollout but the first is written with the weights from before the step that trains meanwhile."""
    chosen = {"steps_ahead": 1, "learning_rate": 0.05, "max_steps": 5, "checkpoint_every": 5}
    run(start, engine, tmp_path, settings(**chosen))
    lines = metrics(tmp_path)
    assert [line["rollout_steps_stale"] for line in lines] == [0, 1, 1, 1, 1]
    assert lines[0]["sampler_gap_max"] < 1e-3
    assert min(line["sampler_gap_max"] for line in lines[1:]) > 1e-3, "the truncated ratio has something to correct"
    asked = [{row["id"] for row in rows} for rows in rollouts(tmp_path).values()]
    run(start, engine, tmp_path / "on_time", settings(max_steps=5, checkpoint_every=5))
    assert asked == [{row["id"] for row in rows} for rows in rollouts(tmp_path / "on_time").values()]


def test_a_rollout_of_several_steps_is_written_during_the_last_of_the_one_before(start, engine, tmp_path):
    chosen = {"steps_ahead": 1, "rollout_prompts": 4, "max_steps": 6, "learning_rate": 0.05}
    run(start, engine, tmp_path, settings(**chosen))
    stale = {line["rollout_step"]: line["rollout_steps_stale"] for line in metrics(tmp_path)}
    assert stale == {1: 0, 3: 1, 5: 1}


def test_runs_ahead_with_one_seed_are_the_same(start, engine, tmp_path):
    chosen = settings(steps_ahead=1, learning_rate=0.05)
    for name in ("one", "two"):
        run(start, engine, tmp_path / name, chosen)
    assert rollouts(tmp_path / "one") == rollouts(tmp_path / "two")


def test_held_out_evaluation_waits_for_the_rollout_under_way(start, engine, tmp_path):
    gaps = []

    def evaluate(step, engine):
        gaps.append(len(engine.generate(["a"], 2, Sampling(max_tokens=4))[0]))

    run(start, engine, tmp_path, settings(steps_ahead=1, learning_rate=0.05), eval_hook=evaluate, eval_every=2)
    assert gaps == [2, 2, 2]
    assert [line["rollout_steps_stale"] for line in metrics(tmp_path)] == [0, 1, 1, 1]


def test_an_error_while_writing_ahead_ends_the_run(start, engine, tmp_path, monkeypatch):
    calls, generate = [], engine.generate

    def fails_later(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the engine broke")
        return generate(*args, **kwargs)

    monkeypatch.setattr(engine, "generate", fails_later)
    with pytest.raises(RuntimeError, match="the engine broke"):
        run(start, engine, tmp_path, settings(steps_ahead=1))


def test_rewards_start_on_a_group_before_the_batch_is_written(start, engine, tmp_path):
    started = []

    class Slow:
        __name__ = "slow"

        def prefetch(self, prompts, completions, completion_ids, answer, trainer_state, **_):
            started.append((len(set(prompts)), list(completions), answer, trainer_state.global_step))

        def __call__(self, prompts, completions, **_):
            seen = [text for _, texts, _, step in started if step == 0 for text in texts]
            assert sorted(seen) == sorted(completions)
            return [1.0] * len(prompts)

    run(start, engine, tmp_path, settings(max_steps=1, checkpoint_every=1), (Slow(),))
    assert [distinct for distinct, *_ in started] == [1, 1]
    started.clear()
    off = settings(max_steps=1, checkpoint_every=1, speedups={"score_while_generating": False})
    run(start, engine, tmp_path / "off", off, (multiples_of_three, Slow())[:1])
    assert started == []


def test_verdicts_stand_beside_the_rewards(start, engine, tmp_path):
    questions = [{**question, "verifier": "exact"} for question in QUESTIONS]
    reward_set = RewardSet([RewardSpec(use="accuracy")])
    chosen = settings(rollout_prompts=4, max_steps=4)
    result = run(start, engine, tmp_path, chosen, reward_set.functions, dataset=questions)
    rows = [row for rows in rollouts(tmp_path).values() for row in rows]
    assert all(row["verdicts"]["accuracy"] in {str(verdict) for verdict in Verdict} for row in rows)
    assert result.verdicts["accuracy"] == dict(Counter(row["verdicts"]["accuracy"] for row in rows))


def test_verdicts_of_a_resumed_run_are_counted_over_all_of_it(start, engine, tmp_path):
    questions = [{**question, "verifier": "exact"} for question in QUESTIONS]
    for steps in (2, 4):
        rewards = RewardSet([RewardSpec(use="accuracy")]).functions
        result = run(start, engine, tmp_path, settings(max_steps=steps), rewards, dataset=questions, resume=True)
    assert sum(result.verdicts["accuracy"].values()) == 4 * 8


def test_overlong_completions_lose_reward_by_the_limit_of_the_step(start, engine, tmp_path):
    chosen = settings(overlong_share=0.5, max_completion_schedule=[{"from_step": 2, "tokens": 12}])
    run(start, engine, tmp_path, chosen)
    for step, (limit, rows) in enumerate(zip([8, 8, 12, 12], rollouts(tmp_path).values(), strict=True)):
        for row in rows:
            assert row["rewards"]["overlong"] == pytest.approx(-max(0.0, row["tokens"] / limit - 0.5) * 2), step


def test_times_and_waste_of_a_step(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_steps=2))
    run(start, engine, tmp_path / "padded", settings(max_steps=2, speedups={"packing": False}))
    for line in metrics(tmp_path):
        parts = [line[f"share_{name}"] for name in ("rollout", "scoring", "sync", "update")]
        assert 0.2 < sum(parts) <= 1
        assert line["seconds_step"] >= line["seconds_rollout"] + line["seconds_update"]
        assert 0 < line["update_flop_utilisation"] < 1
        assert 0 <= line["pad_share"] < 1
        assert line["dropped_rows"] == line["rows"] - line["trained_rows"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts_per_step": 10}, "9 questions and a rollout asks 10"),
        ({"max_completion_tokens": 120}, "max_model_len=128 leaves 8 beside completions of 120"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(start, engine, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(start, engine, tmp_path, settings(**changes))


def test_in_process_vllm_from_start_to_resume(start, tmp_path):
    chosen = {"beta": 0.01, "reference_refresh_steps": 2}
    settings_of_engine = EngineSettings(
        kind="vllm", dtype="float32", max_model_len=128, max_sequences=16, kv_cache_gib=1
    )
    with open_engine(settings_of_engine, start) as vllm:
        run(start, vllm, tmp_path, settings(max_steps=4, learning_rate=0.05, **chosen))
        run(start, vllm, tmp_path, settings(max_steps=6, learning_rate=0.05, **chosen), resume=True)
        assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
        assert all(line["sampler_gap_max"] < 1e-3 for line in metrics(tmp_path))
