"""Writing with drafts of a model's own multi-token prediction module: nothing of what is written changes."""

import itertools

import pytest
import torch

from pipeline.config.engine import Sampling
from pipeline.core.causal_lm import load_causal_lm
from pipeline.engines import EngineSettings, open_engine
from pipeline.engines.drawing import drawn_from
from pipeline.engines.speculating import _settled
from pipeline.engines.weights import same_architecture
from tests.pipeline.engines.tiny import tiny_checkpoint

PROMPTS = [[5, 6, 7, 3, 4, 5], [7], [3, 4], [6, 5, 4, 3]]
LETTERS = 8
"""Tokens of a small vocabulary, of which 1 is the end."""


def opened(folder, drafts, **changes):
    settings = EngineSettings(kind="transformers", dtype="float32", max_model_len=64, mtp_drafts=drafts, **changes)
    return open_engine(settings, folder, seed=0)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A random model of few tokens."""
    folder = tmp_path_factory.mktemp("drafts")
    return tiny_checkpoint(folder, "deepseek_v3", seed=3, num_mtp_layers=1, vocab_size=LETTERS)


@pytest.fixture(scope="module")
def model(start):
    return load_causal_lm(start, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def engine(start):
    with opened(start, 1, max_sequences=3) as engine:
        yield engine


@torch.no_grad()
def own_logprobs(model, prompt, tokens):
    rows = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(tokens)[:, None])[:, 0]


def test_greedy_text_is_that_without_drafts(start, engine):
    sampling = Sampling(max_tokens=20, temperature=0)
    with opened(start, 0) as plain:
        expected = plain.generate(PROMPTS, 1, sampling)
    found = engine.generate(PROMPTS, 1, sampling)
    assert [c.token_ids for group in found for c in group] == [c.token_ids for group in expected for c in group]
    assert 0 < engine.stats.accepted < engine.stats.drafted


def test_log_probabilities_are_the_models_own_behind_accepted_and_rejected_drafts(model, engine):
    groups = engine.generate(PROMPTS, 4, Sampling(max_tokens=8, seed=3))
    assert {c.finish_reason for group in groups for c in group} == {"stop", "length"}
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for c in group:
            assert len(c.token_ids) <= 8 and 1 not in c.token_ids[:-1]
            expected = own_logprobs(model, prompt, c.token_ids)
            torch.testing.assert_close(torch.tensor(c.logprobs), expected, atol=1e-5, rtol=0)


def test_seeds_repeat_and_differ(engine):
    first, again, other = (
        [c.token_ids for group in engine.generate(PROMPTS, 4, Sampling(max_tokens=12, seed=seed)) for c in group]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def improbable(counts: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether Pearson's chi-square of the counts lies five standard deviations above its mean; rare outcomes are one
    together."""
    rare = expected < 5
    counts, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected))
    kept = expected > 0
    square = ((counts - expected)[kept] ** 2 / expected[kept]).sum().item()
    freedom = int(kept.sum()) - 1
    return square > freedom + 5 * (2 * freedom) ** 0.5 or counts[~kept].sum().item() > 0


@torch.no_grad()
def test_texts_are_distributed_as_the_model_says(start, model):
    prompt, length, samples = PROMPTS[0], 3, 6000
    texts = [
        [*text]
        for size in range(1, length + 1)
        for text in itertools.product(range(LETTERS), repeat=size)
        if 1 not in text[:-1] and (size == length or text[-1] == 1)
    ]
    filled = torch.tensor([prompt + text + [0] * (length - len(text)) for text in texts])
    scores = model(filled).logits[:, len(prompt) - 1 : -1].log_softmax(-1).gather(2, filled[:, len(prompt) :, None])
    within = torch.arange(length) < torch.tensor([len(text) for text in texts])[:, None]
    expected = (scores[..., 0] * within).sum(1).exp()
    assert expected.sum().item() == pytest.approx(1, abs=1e-4)
    with opened(start, 1, max_sequences=2000) as engine:
        (group,) = engine.generate([prompt], samples, Sampling(max_tokens=length, seed=5))
        assert 0.2 < engine.stats.accepted / engine.stats.drafted < 0.95
    places = {tuple(text): place for place, text in enumerate(texts)}
    counts = torch.bincount(torch.tensor([places[tuple(c.token_ids)] for c in group]), minlength=len(texts))
    assert not improbable(counts, samples * expected)
    assert improbable(counts, samples * expected.roll(1))  # the test can fail


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5}, {"temperature": 1.5, "top_p": 0.8}], ids=str)
def test_a_draft_of_any_distribution_leaves_the_wanted_one(sampling):
    generator, rows = torch.Generator().manual_seed(0), 40_000
    chosen = Sampling(max_tokens=1, **sampling)
    for wanted, drafted in torch.randn(3, 2, 6, generator=generator) * 2:
        q = drawn_from(drafted[None], chosen).softmax(-1)[0]
        drafts = torch.multinomial(q, rows, replacement=True, generator=generator)
        logits = (x.expand(rows, -1) for x in (drafted, wanted))
        tokens, scores, accepted = _settled(drafts, *logits, chosen, generator)
        p = drawn_from(wanted[None], chosen).log_softmax(-1)[0]
        assert not improbable(torch.bincount(tokens, minlength=6), rows * p.exp())
        torch.testing.assert_close(scores, p[tokens])
        expected = torch.minimum(p.exp(), q).sum().item()  # of drafts that are accepted
        assert accepted.double().mean().item() == pytest.approx(expected, abs=0.01)


@torch.no_grad()
def test_a_module_that_knows_the_model_is_always_right_and_follows_a_sync(start, engine):
    """Without what its layers add, the model is a function of the last token, and the module of the next one."""
    model = load_causal_lm(start, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            weight.zero_()
        elif "norm" in name:
            weight.fill_(1)
    width = model.config.hidden_size
    model.get_parameter("model.layers.2.eh_proj.weight").copy_(torch.eye(width, 2 * width))
    model.model.embed_tokens.weight.mul_(30)  # norms of norms are norms
    engine.sync_weights(model)
    before = engine.stats.drafted, engine.stats.accepted
    engine.generate(PROMPTS[2:], 8, Sampling(max_tokens=16, seed=1))
    drafted, accepted = engine.stats.drafted - before[0], engine.stats.accepted - before[1]
    assert drafted == accepted > 20
    engine.load_weights(start)


def test_an_engine_is_opened_anew_for_a_model_without_a_module(start, tmp_path):
    assert not same_architecture(start, tiny_checkpoint(tmp_path, "deepseek_v3", vocab_size=LETTERS))
