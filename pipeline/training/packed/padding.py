"""Rows of a GRPO batch padded to their longest, for models that cannot be packed."""

import torch

from pipeline.training.packed.packing import Row


def padded(rows: list[Row], padding: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Prompts, padded on the left, and completions, each with its mask: four tensors of (rows, longest)."""
    return (
        pad([row.prompt_ids for row in rows], padding, device, left=True),
        pad([[1] * len(row.prompt_ids) for row in rows], 0, device, left=True),
        pad([row.completion_ids for row in rows], padding, device),
        pad([[1] * len(row.completion_ids) for row in rows], 0, device),
    )


def pad(rows: list[list], value, device: torch.device, left: bool = False) -> torch.Tensor:
    """(rows, longest) with `value` where a row has ended."""
    width = max(map(len, rows))
    fill = [[value] * (width - len(row)) for row in rows]
    return torch.tensor([f + row if left else row + f for row, f in zip(rows, fill, strict=True)], device=device)
