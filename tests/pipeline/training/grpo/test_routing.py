"""The experts that the engine chose, in the trainer's passes: compared, replayed, refused where they cannot be."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.core.routing import main_routers, prescribe
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.training.packed.attention import attach_packed_forward
from pipeline.training.packed.packing import Row, pack
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.runs import metrics, run, settings

KINDS = ("deepseek_v3", "qwen3_moe", "olmoe")
ENGINE = {"kind": "transformers", "dtype": "float32", "max_model_len": 128}
REPLAY = {"routing_replay": True, "learning_rate": 1e-30}


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    return {kind: tiny_checkpoint(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def engines(starts):
    opened = {kind: open_engine(EngineSettings(**ENGINE), start) for kind, start in starts.items()}
    yield opened
    for engine in opened.values():
        engine.close()


@pytest.fixture
def altered(engines, monkeypatch):
    """The engine of DeepSeek-V3, telling other experts than it chose where `which(place in the group)` says so."""
    engine, which = engines["deepseek_v3"], [lambda place: True]
    generate = type(engine).generate

    def told(*args, **kwargs):
        groups = generate(engine, *args, **kwargs)
        for group in groups:
            for place, completion in enumerate(group):
                if which[0](place):
                    completion.experts = (completion.experts + 3) % 8
        return groups

    monkeypatch.setattr(engine, "generate", told)
    engine.alter_where = lambda condition: which.__setitem__(0, condition)
    return engine


def by_hand(kind, router, logits, experts):
    """The weights of given experts as the published formulas have them."""
    if kind == "deepseek_v3":
        weights = logits.float().sigmoid().gather(1, experts)
        return weights / weights.sum(-1, keepdim=True) * router.routed_scaling_factor
    weights = logits.float().softmax(-1).gather(1, experts)
    return weights / weights.sum(-1, keepdim=True) if router.norm_topk_prob else weights


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_tells_what_its_routers_chose(kind, starts, engines):
    prompts, model = [[5, 6, 7], [8, 9, 10, 11, 12]], AutoModelForCausalLM.from_pretrained(starts[kind])
    engines[kind].load_weights(starts[kind])
    routers, seen = main_routers(model), []
    for router in routers:
        router.register_forward_hook(lambda module, args, output: seen.append(output[2].sort(-1).values))
    groups = engines[kind].generate(prompts, 2, Sampling(max_tokens=6, seed=0), tell_experts=True)
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            seen.clear()
            model(torch.tensor([[*prompt, *completion.token_ids[:-1]]]))
            assert completion.experts.dtype == torch.uint8
            assert torch.equal(completion.experts.long().sort(-1).values, torch.stack(seen, dim=1))
    assert engines[kind].generate(prompts[:1], 1, Sampling(max_tokens=2))[0][0].experts is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_prescribed_experts_weigh_what_the_router_gives_them(kind, checkpointing, starts):
    torch.manual_seed(0)
    ids, rows, found = [[5, 6, 7, 20, 21, 22], [5, 6, 7, 23, 24]], [], []
    for text in ids:
        drawn = [[torch.randperm(4)[:2] for _ in range(2)] for _ in text[:-1]]
        layers = 1 if kind == "deepseek_v3" else 2
        experts = torch.stack([torch.stack(each[:layers]) for each in drawn]).to(torch.uint8)
        rows.append(Row(text[:3], text[3:], 0.0, None, False, len(rows), experts=experts))
    for packed in (True, False):
        model = AutoModelForCausalLM.from_pretrained(starts[kind], dtype=torch.float32).train()
        routers, now = main_routers(model), []
        if packed and checkpointing:
            model.gradient_checkpointing_enable()
        if packed:
            attach_packed_forward(model, 1.0)
            batch = pack(rows, True, torch.device("cpu"))
            for place, router in enumerate(routers):
                prescribe(router, lambda place=place, batch=batch: batch.experts[:, place].long())
            scores = batch.unpack(model(packed=batch)[0])
            scores = [values[: len(row.completion_ids)] for values, row in zip(scores, rows, strict=True)]
        else:
            for place, router in enumerate(routers):

                def replaced(module, args, output, place=place, now=now):
                    experts = now[0][:, place].long()
                    return output[0], by_hand(kind, module, output[0], experts), experts

                router.register_forward_hook(replaced)
            scores = []
            for row in rows:
                now[:] = [row.experts]
                logits = model(torch.tensor([row.prompt_ids + row.completion_ids[:-1]])).logits[0, 2:]
                scores.append(logits.log_softmax(-1).gather(1, torch.tensor(row.completion_ids)[:, None])[:, 0])
        torch.cat(scores).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((torch.cat(scores), gradients))
    (packed, replayed), (plain, expected) = found
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)
    assert max(grad.abs().max() for name, grad in expected.items() if name.endswith("gate.weight")) > 1e-4
    for name, gradient in expected.items():
        torch.testing.assert_close(replayed[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_replay_is_exact_and_nothing_is_routed_otherwise(kind, starts, engines, tmp_path):
    run(starts[kind], engines[kind], tmp_path, settings(max_steps=2, rollout_prompts=4, **REPLAY))
    first, second = metrics(tmp_path)
    assert first["routed_otherwise_share"] == 0
    assert "routed_otherwise_share" not in second  # the rollout was compared when it was new
    assert max(first["sampler_gap"], second["sampler_gap"]) < 1e-6


def test_the_share_is_told_without_replay_and_the_policy_goes_its_own_way(starts, altered, tmp_path):
    run(starts["deepseek_v3"], altered, tmp_path, settings(max_steps=1, learning_rate=1e-30))
    (figures,) = metrics(tmp_path)
    assert figures["routed_otherwise_share"] > 0.9
    assert figures["sampler_gap"] < 1e-5


def test_with_replay_policy_and_reference_follow_the_experts_that_were_told(starts, altered, tmp_path):
    run(starts["deepseek_v3"], altered, tmp_path, settings(max_steps=1, beta=0.01, **REPLAY))
    (figures,) = metrics(tmp_path)
    assert figures["routed_otherwise_share"] > 0.9
    assert figures["sampler_gap"] > 1e-3
    assert abs(figures["kl"]) < 1e-9  # one router's weights in both


def test_rows_share_a_prompt_only_where_its_experts_are_the_same(starts, altered, tmp_path):
    tokens = []
    for name, condition in {"alike": lambda place: False, "one": lambda place: place == 0}.items():
        altered.alter_where(condition)
        run(starts["deepseek_v3"], altered, tmp_path / name, settings(max_steps=1, **REPLAY))
        tokens.append(metrics(tmp_path / name)[0]["forward_tokens"])
    assert tokens[1] > tokens[0]


def test_a_dense_model_has_nothing_to_replay(tmp_path):
    start = tiny_checkpoint(tmp_path / "dense", "qwen3")
    with (
        open_engine(EngineSettings(**ENGINE), start) as engine,
        pytest.raises(ValueError, match="routing_replay is on, but Qwen3ForCausalLM has no routers"),
    ):
        run(start, engine, tmp_path / "run", settings(**REPLAY))


def test_an_engine_that_writes_with_drafts_refuses_by_name(starts, engines, tmp_path, monkeypatch):
    monkeypatch.setattr(engines["olmoe"], "settings", EngineSettings(**ENGINE, mtp_drafts=1))
    with pytest.raises(ValueError, match="routing_replay is on, but an engine that writes with drafts"):
        run(starts["olmoe"], engines["olmoe"], tmp_path, settings(**REPLAY))


def test_engines_that_tell_no_experts_are_known_by_their_settings():
    assert EngineSettings(**ENGINE).experts_untold == ""
    for engine in ({"kind": "vllm"}, {"kind": "vllm-server", "servers": 1}):
        assert "set engine.kind: transformers" in EngineSettings(**engine, max_model_len=64).experts_untold


def test_replay_needs_packed_passes():
    with pytest.raises(ValueError, match=r"routing_replay replays experts in packed passes"):
        settings(routing_replay=True, speedups={"packing": False, "share_prompts": False})
