"""Block-wise FP8 as the DeepSeek-V3 report has it (arXiv 2412.19437, section 3.3): values in E4M3, a float32 scale a
block, 128 × 128 for weights and 1 × 128 for activations. Emulated: values are rounded as the format rounds them, and
what is computed with them is computed in float32, on any device.
"""

import torch

BLOCK = 128
"""Rows and columns of a weight that share a scale; columns of an activation."""
LARGEST = torch.finfo(torch.float8_e4m3fn).max
"""The format's largest number, which the largest of each block becomes: 448."""


def quantised(matrix: torch.Tensor, rows: int = BLOCK, columns: int = BLOCK) -> tuple[torch.Tensor, torch.Tensor]:
    """matrix (R, C) -> its values as float8_e4m3fn (R, C), and the float32 scales (⌈R / rows⌉, ⌈C / columns⌉) that each
    block of `rows` × `columns` is to be multiplied with. Blocks at the edges may be smaller; one of zeros has scale 1.
    """
    blocks = _in_blocks(matrix.float(), rows, columns)
    largest = blocks.abs().amax(dim=(1, 3))
    scales = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    values = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
    return _out_of_blocks(values, matrix.shape), scales


def dequantised(values: torch.Tensor, scales: torch.Tensor, rows: int = BLOCK, columns: int = BLOCK) -> torch.Tensor:
    """values (R, C) times the scale of each one's block, in float32: (R, C).

    Raises ValueError where `scales` are not one a block.
    """
    expected = (-(-values.shape[0] // rows), -(-values.shape[1] // columns))
    if tuple(scales.shape) != expected:
        raise ValueError(
            f"{tuple(values.shape)} values in blocks of {rows} × {columns} have {expected} scales; "
            f"got {tuple(scales.shape)}"
        )
    blocks = _in_blocks(values.float(), rows, columns) * scales.float()[:, None, :, None]
    return _out_of_blocks(blocks, values.shape)


def rounded(matrix: torch.Tensor, rows: int = BLOCK, columns: int = BLOCK) -> torch.Tensor:
    """(R, C) as FP8 keeps it, in float32."""
    return dequantised(*quantised(matrix, rows, columns), rows, columns)


def _in_blocks(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(R, C) -> (row blocks, rows, column blocks, columns), zeros beyond the edges."""
    height, width = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -width % columns, 0, -height % rows))
    return padded.unflatten(1, (-1, columns)).unflatten(0, (-1, rows))


def _out_of_blocks(blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return blocks.flatten(2, 3).flatten(0, 1)[: shape[0], : shape[1]].contiguous()
