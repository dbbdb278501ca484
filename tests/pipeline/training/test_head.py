"""The language model head on a CPU against the softmax over whole logits."""

import pytest
import torch

from pipeline.training.packed import head
from pipeline.training.packed.head import HeadLogProbs

ROWS, WIDTH, VOCABULARY = 11, 8, 37


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Blocks of four rows and tiles of two, so that both are cut and the last of each is short."""
    monkeypatch.setattr(head, "BLOCK_ROWS", 4)
    monkeypatch.setattr(head, "TILE", 2 * VOCABULARY + 1)


def inputs(bias: bool):
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, requires_grad=True)
    offset = torch.randn(VOCABULARY, requires_grad=True) if bias else None
    return hidden, weight, offset, torch.randint(0, VOCABULARY, (ROWS,))


def whole(hidden, weight, bias, labels, temperature: float):
    logits = torch.nn.functional.linear(hidden, weight, bias).float() / temperature
    log_p = logits.log_softmax(-1)
    return log_p.gather(-1, labels[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def gradients(log_probs, *leaves):
    coefficients = torch.linspace(-1, 2, ROWS)
    return torch.autograd.grad((log_probs * coefficients).sum(), [leaf for leaf in leaves if leaf is not None])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_the_whole_softmax(bias, temperature):
    hidden, weight, offset, labels = inputs(bias)
    log_probs, entropies = HeadLogProbs.apply(hidden, weight, offset, labels, temperature, True)
    expected, expected_entropies = whole(hidden, weight, offset, labels, temperature)
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropies, expected_entropies, atol=1e-5, rtol=1e-5)
    for found, wanted in zip(
        gradients(log_probs, hidden, weight, offset), gradients(expected, hidden, weight, offset), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_entropy_is_left_out_where_it_is_not_asked_for():
    hidden, weight, _, labels = inputs(False)
    assert HeadLogProbs.apply(hidden, weight, None, labels, 1.0, False)[1] is None


def test_a_frozen_head_gets_no_gradient_and_passes_it_on():
    hidden, weight, _, labels = inputs(False)
    log_probs, _ = HeadLogProbs.apply(hidden, weight.detach(), None, labels, 1.0, True)
    [found] = gradients(log_probs, hidden)
    [wanted] = gradients(whole(hidden, weight, None, labels, 1.0)[0], hidden)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_under_autocast_it_rounds_no_more_than_the_whole_softmax_does():
    hidden, weight, _, labels = inputs(False)
    exact = gradients(whole(hidden, weight, None, labels, 1.0)[0], hidden, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = HeadLogProbs.apply(hidden, weight, None, labels, 1.0, True)[0]
        stock = whole(hidden, weight, None, labels, 1.0)[0]
    assert ours.dtype == torch.float32
    for right, found, usual in zip(
        exact, gradients(ours, hidden, weight), gradients(stock, hidden, weight), strict=True
    ):
        assert (found - right).norm() <= 1.5 * (usual - right).norm()


def test_extreme_logits_stay_finite():
    hidden, weight, _, labels = inputs(False)
    log_probs, entropies = HeadLogProbs.apply(hidden * 1e4, weight, None, labels, 1.0, True)
    assert log_probs.isfinite().all() and entropies.isfinite().all()
