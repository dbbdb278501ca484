"""What every engine in this process promises, for each architecture.

The fixture opens one engine after another in one process, so each architecture also shows that the one before it was
closed for good.
"""

import copy
import itertools
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pipeline.engines import EngineSettings, Sampling, open_engine
from tests.pipeline.engines.tiny import ARCHITECTURES, tiny_checkpoint

PROMPTS = ["What is 2 + 3 ?", "a", "A rather longer question than the other two, to make the batch uneven .", "b c"]
END, THINK = 1, 2


@pytest.fixture(scope="module", params=itertools.product(("vllm", "transformers"), ARCHITECTURES), ids="-".join)
def served(request, tmp_path_factory):
    kind, architecture = request.param
    folder = tiny_checkpoint(tmp_path_factory.mktemp(architecture), architecture)
    settings = EngineSettings(kind=kind, dtype="float32", max_model_len=160, max_sequences=16)
    with open_engine(settings, folder) as engine:
        yield engine, folder, architecture


@pytest.fixture
def engine(served):
    engine, folder, _ = served
    engine.load_weights(folder)
    return engine


@pytest.fixture
def model(served):
    return AutoModelForCausalLM.from_pretrained(served[1], dtype=torch.float32)


def widest_gap(model, engine, groups, temperature=1.0) -> float:
    """Largest difference between the engine's log-probabilities and those of a forward pass."""
    gaps = []
    for prompt, group in zip(PROMPTS, groups, strict=True):
        ids = engine.encode(prompt)
        for completion in group:
            tokens = torch.tensor(completion.token_ids)
            with torch.no_grad():
                logits = model(torch.tensor([ids + completion.token_ids])).logits[0, len(ids) - 1 : -1]
            expected = (logits / temperature).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
            gaps.append((expected - torch.tensor(completion.logprobs)).abs().max().item())
    return max(gaps)


def disturb(model, size=0.3) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))


def test_logprobs_are_the_models(engine, model):
    groups = engine.generate(PROMPTS, 3, Sampling(max_tokens=20, seed=0))
    assert widest_gap(model, engine, groups) < 1e-3


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_weight_sync_after_a_large_update(engine, model, temperature):
    """Every weight changes by more than its size, the tied head and embedding included."""
    old = copy.deepcopy(model)
    disturb(model)
    engine.sync_weights(model)
    groups = engine.generate(PROMPTS, 3, Sampling(max_tokens=20, seed=0, temperature=temperature))
    assert widest_gap(model, engine, groups, temperature) < 1e-3
    assert widest_gap(old, engine, groups, temperature) > 0.5


def test_second_sync_replaces_the_first(engine, model):
    disturb(model)
    engine.sync_weights(model)
    engine.generate(PROMPTS, 1, Sampling(max_tokens=8))  # fills the prefix cache with the first weights
    disturb(model, 0.5)
    engine.sync_weights(model)
    assert widest_gap(model, engine, engine.generate(PROMPTS, 2, Sampling(max_tokens=20))) < 1e-3


def test_adapters_are_synced_merged_and_left_as_they_were(engine, model):
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    disturb(adapted, 0.2)
    before = {name: p.detach().clone() for name, p in adapted.named_parameters()}
    engine.sync_weights(adapted)
    groups = engine.generate(PROMPTS, 2, Sampling(max_tokens=20))
    assert widest_gap(adapted, engine, groups) < 1e-3
    for name, parameter in adapted.named_parameters():
        assert torch.equal(parameter, before[name]), f"{name} was changed by the sync"


def test_loading_another_checkpoint(engine, model, served, tmp_path):
    other = tiny_checkpoint(tmp_path / "other", served[2], seed=7)
    engine.load_weights(other)
    groups = engine.generate(PROMPTS, 2, Sampling(max_tokens=20))
    assert widest_gap(AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32), engine, groups) < 1e-3


def test_checkpoint_of_another_shape_is_refused(engine, served, tmp_path):
    other = tiny_checkpoint(tmp_path / "other", served[2], num_hidden_layers=3)
    with pytest.raises(ValueError, match="num_hidden_layers is 2 in the engine and 3 in the checkpoint"):
        engine.load_weights(other)


def test_greedy_is_transformers_greedy(engine, model):
    for prompt, group in zip(PROMPTS, engine.generate(PROMPTS, 1, Sampling(max_tokens=12, temperature=0)), strict=True):
        ids = torch.tensor([engine.encode(prompt)])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert group[0].token_ids == expected[0, ids.shape[1] :].tolist()


def test_top_p_keeps_the_likeliest_tokens_and_renormalises(engine, model):
    disturb(model)
    engine.sync_weights(model)
    for prompt, group in zip(PROMPTS, engine.generate(PROMPTS, 8, Sampling(max_tokens=1, top_p=0.5)), strict=True):
        with torch.no_grad():
            p = model(torch.tensor([engine.encode(prompt)])).logits[0, -1].softmax(-1)
        order = p.argsort(descending=True)
        size = int((p[order].cumsum(0) < 0.5).sum()) + 1
        for completion in group:
            token = completion.token_ids[0]
            assert token in order[:size].tolist()
            assert completion.logprobs[0] == pytest.approx(math.log(p[token] / p[order[:size]].sum()), abs=1e-3)


def test_groups_come_in_the_order_of_the_prompts(engine):
    groups = engine.generate(PROMPTS, 3, Sampling(max_tokens=6, temperature=0))
    assert [len(group) for group in groups] == [3] * len(PROMPTS)
    alone = [engine.generate([prompt], 1, Sampling(max_tokens=6, temperature=0))[0][0] for prompt in PROMPTS]
    for group, expected in zip(groups, alone, strict=True):
        assert [c.token_ids for c in group] == [expected.token_ids] * 3


def test_token_ids_and_text_prompts_are_the_same(engine):
    sampling = Sampling(max_tokens=6, seed=2)
    assert engine.generate(PROMPTS, 2, sampling) == engine.generate([engine.encode(p) for p in PROMPTS], 2, sampling)


def test_same_seed_same_completions(engine):
    def texts(seed):
        return [c.token_ids for group in engine.generate(PROMPTS, 4, Sampling(max_tokens=10, seed=seed)) for c in group]

    first = texts(1)
    assert first != texts(2)
    assert first == texts(1)
    assert len(set(map(tuple, first[:4]))) > 1, "samples of one prompt must differ"


def test_the_trainers_random_numbers_are_left_alone(engine):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    engine.generate(PROMPTS, 2, Sampling(max_tokens=4))
    assert torch.equal(torch.rand(4), expected)


def test_end_token_stops_and_special_tokens_show(engine, model):
    """A model that can only say `<think>` or end: the text shows the one and leaves out the other."""
    _let_only(model, (THINK, END))
    engine.sync_weights(model)
    completions = [c for group in engine.generate(PROMPTS, 16, Sampling(max_tokens=12)) for c in group]
    reasons = {c.finish_reason for c in completions}
    assert "stop" in reasons
    for c in completions:
        ended = c.finish_reason == "stop"
        assert (c.token_ids[-1] == END) == ended
        assert c.text == "<think>" * (len(c.token_ids) - ended)
        assert ended or len(c.token_ids) == 12
        assert len(c.logprobs) == len(c.token_ids)


def _let_only(model, tokens: tuple[int, ...]) -> None:
    """Make every next token one of `tokens`, with equal chances, whatever the model reads.

    Embeddings are equal but for their third number, which is high for `tokens`; the last layer writes a large third
    number, so a head that is tied to the embedding prefers them.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for weight in {id(w): w for w in (m.weight for m in (model.get_input_embeddings(), model.lm_head))}.values():
            weight[:, 0] = 1.0
            weight[:, 2] = -0.1
            weight[list(tokens), 2] = 0.1
        layer = model.base_model.layers[-1]
        layer.post_attention_layernorm.weight.fill_(1.0)
        layer.mlp.gate_proj.weight[0, 0] = layer.mlp.up_proj.weight[0, 0] = 1.0
        layer.mlp.down_proj.weight[2, 0] = 1.0
        model.base_model.norm.weight[2] = 50.0


def test_progress_counts_prompts(engine):
    seen = []
    engine.generate(PROMPTS, 2, Sampling(max_tokens=4), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(PROMPTS), len(PROMPTS))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_an_interrupted_call_leaves_nothing_behind(engine):
    def stop(done, total):
        raise KeyboardInterrupt

    lengths = [1 + 10 * i for i in range(len(PROMPTS))]  # the first is done long before the others
    with pytest.raises(KeyboardInterrupt):
        engine.generate([[5] * length for length in lengths], 4, Sampling(max_tokens=50), on_progress=stop)
    if engine.settings.kind == "vllm":
        assert not engine._llm.llm_engine.has_unfinished_requests()
    assert [len(g) for g in engine.generate(PROMPTS[:2], 2, Sampling(max_tokens=4))] == [2, 2]


def test_groups_are_given_as_they_finish_under_their_prompts_number(engine):
    given = {}
    groups = engine.generate(["a", "bcd", "ef"], 2, Sampling(max_tokens=4), on_group=given.__setitem__)
    assert [given[i] for i in range(3)] == groups


def test_statistics_count_tokens(engine):
    before = engine.stats.tokens
    groups = engine.generate(PROMPTS, 2, Sampling(max_tokens=4))
    assert engine.stats.tokens - before == sum(len(c.token_ids) for g in groups for c in g)


def test_logprobs_can_be_left_out(engine):
    assert engine.generate(["a"], 1, Sampling(max_tokens=3, logprobs=False))[0][0].logprobs is None


def test_no_prompts_no_completions(engine):
    assert engine.generate([], 2, Sampling(max_tokens=3)) == []


def test_prompt_that_does_not_fit_is_refused(engine):
    with pytest.raises(ValueError, match=r"prompt 1 has 150 tokens and max_tokens is 20.*at least 170"):
        engine.generate(["a", [5] * 150], 1, Sampling(max_tokens=20))


@pytest.mark.parametrize(("prompts", "n", "message"), [([[]], 1, "prompt 0 is empty"), (["a"], 0, "n=0")])
def test_empty_requests_are_refused(engine, prompts, n, message):
    with pytest.raises(ValueError, match=message):
        engine.generate(prompts, n, Sampling(max_tokens=4))
