"""Block-wise FP8 against float64 arithmetic and the definition of the format."""

import pytest
import torch

from pipeline.core.fp8 import LARGEST, dequantised, quantised, rounded

HALF_STEP = 2.0**-4
"""Half of the distance between neighbours, of three bits after the leading one, relative to the number."""
SMALLEST_HALF_STEP = 2.0**-10
"""The same below 2⁻⁶, where the distance no longer shrinks."""


def matrix(rows: int, columns: int, outliers: bool = False) -> torch.Tensor:
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))
    if outliers:
        made[:, 3] *= 1e4
    return made


def bound(exact: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """How far each rounded number may be from the number: of its block's scale and its own size."""
    _, scales = quantised(exact, rows, columns)
    scale = scales.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[: exact.shape[0], : exact.shape[1]]
    return torch.maximum(HALF_STEP * exact.abs(), SMALLEST_HALF_STEP * scale).double() * (1 + 1e-6)


@pytest.mark.parametrize("block", [(128, 128), (1, 128), (128, 1)], ids=str)
@pytest.mark.parametrize("shape", [(256, 384), (200, 130), (1, 1), (5, 300)], ids=str)
@pytest.mark.parametrize("outliers", [False, True])
def test_no_number_is_further_off_than_the_format_allows(shape, block, outliers):
    exact = matrix(*shape, outliers and shape[1] > 3)
    values, scales = quantised(exact, *block)
    assert values.dtype == torch.float8_e4m3fn
    assert values.float().abs().amax() == LARGEST
    assert scales.shape == (-(-shape[0] // block[0]), -(-shape[1] // block[1]))
    assert ((rounded(exact, *block).double() - exact.double()).abs() <= bound(exact, *block)).all()


def test_an_outlier_costs_its_own_block_alone():
    exact = matrix(256, 256)
    with_outlier = exact.clone()
    with_outlier[0, 0] = 1e6
    assert torch.equal(rounded(with_outlier)[128:], rounded(exact)[128:])
    assert torch.equal(rounded(with_outlier)[:, 128:], rounded(exact)[:, 128:])
    assert not torch.equal(rounded(with_outlier)[1:128, 1:128], rounded(exact)[1:128, 1:128])


def test_rounding_twice_changes_nothing_and_zeros_stay():
    once = rounded(matrix(200, 130))
    assert torch.allclose(rounded(once), once, rtol=1e-6, atol=0)
    assert torch.equal(rounded(torch.zeros(3, 200)), torch.zeros(3, 200))


@pytest.mark.parametrize("outliers", [False, True])
def test_a_product_is_within_the_bound_of_its_operands(outliers):
    x, weight = matrix(40, 300, outliers), matrix(200, 300)
    exact = x.double() @ weight.double().T
    of_x, of_weight = bound(x, 1, 128), bound(weight, 128, 128)
    allowed = of_x @ weight.double().abs().T + x.double().abs() @ of_weight.T + of_x @ of_weight.T
    difference = (rounded(x, 1).double() @ rounded(weight).double().T - exact).abs()
    assert (difference <= allowed).all()


def test_scales_of_another_shape_are_refused():
    values, scales = quantised(matrix(200, 130))
    with pytest.raises(ValueError, match=r"\(2, 2\) scales; got \(1, 2\)"):
        dequantised(values, scales[:1])
