"""What a model's checkpoint holds beside its parameters: buffers such as the balancing bias of a router of experts.

No gradient moves them, but training may, and what a model computes hangs on them: whoever copies, hands over or keeps
a model's parameters does the same with these.
"""

from collections.abc import Iterator
from typing import Any

ROUTER_BIAS = "e_score_correction_bias"
"""transformers' name of a router's balancing bias, a persistent buffer of (experts,). It is float32 wherever it is: in
bfloat16 the small steps that it takes would be lost."""


def dtype_of(name: str, dtype: Any) -> Any:
    """The torch dtype of a weight of this name in a model whose weights are of `dtype`."""
    import torch

    return torch.float32 if name.endswith(ROUTER_BIAS) else dtype


def persistent_buffers(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, live tensor) of each buffer that the torch model's checkpoint holds; one of several names comes once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is None or key in module._non_persistent_buffers_set or id(buffer) in seen:
                continue
            seen.add(id(buffer))
            yield f"{prefix}.{key}" if prefix else key, buffer


def kept_tensors(model: Any) -> dict[str, Any]:
    """All that the model's checkpoint holds, by the names of the running model: parameters and persistent buffers."""
    return dict(model.named_parameters()) | dict(persistent_buffers(model))
