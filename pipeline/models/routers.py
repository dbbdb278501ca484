"""What the routers of a mixture of experts do: how many tokens each expert gets, and the biases that even it out.

A router chooses the experts of each token. DeepSeek-V3's (arXiv 2412.19437, section 2.1.2) adds a bias to each expert's
affinity before it chooses, which no gradient moves: `Routers.balance` does.
"""

import torch
from torch import nn

from pipeline.config.experts import BalanceSettings
from pipeline.core.buffers import ROUTER_BIAS

IDLE_SHARE = 0.1
"""An expert is idle where its tokens are fewer than this share of the mean of its layer."""


class Routers:
    """The routers of `model`, in the order of its layers, and what they have sent where since the last `take`.

    Counted are passes that record a gradient, and of those with a mask of padding, (rows, length), the real tokens.
    """

    def __init__(self, model: nn.Module):
        self._routers = [module for module in model.modules() if _is_router(module)]
        self._counts = [torch.zeros(router.num_experts, dtype=torch.long) for router in self._routers]
        self._real: torch.Tensor | None = None
        self.counting = True
        """Whether passes count: not those that stand in for nothing."""
        if self._routers:
            # Called by whatever is around it: adapters call the forward pass of the model with the head past its hooks.
            getattr(model, "base_model", model).register_forward_pre_hook(self._note_padding, with_kwargs=True)
        for place, router in enumerate(self._routers):
            router.register_forward_hook(lambda module, args, output, place=place: self._count(place, output[-1]))

    def __len__(self) -> int:
        return len(self._routers)

    @property
    def biased(self) -> bool:
        """Whether all of them have a balancing bias."""
        return bool(self._routers) and all(
            isinstance(getattr(r, ROUTER_BIAS, None), torch.Tensor) for r in self._routers
        )

    def take(self) -> torch.Tensor:
        """(layers, experts) tokens sent to each expert since the last call, in this process."""
        taken = torch.stack([counts.cpu() for counts in self._counts])
        for counts in self._counts:
            counts.zero_()
        return taken

    @torch.no_grad()
    def balance(self, counts: torch.Tensor, rate: float) -> None:
        """b ← b + rate · sign(mean load − load), for (layers, experts) `counts` of a whole step, over all processes."""
        loads = counts.double()
        changes = rate * torch.sign(loads.mean(1, keepdim=True) - loads)
        for router, change in zip(self._routers, changes, strict=True):
            bias = getattr(router, ROUTER_BIAS)
            bias += change.to(bias)

    def _note_padding(self, module, args, kwargs) -> None:
        mask = kwargs.get("attention_mask")
        self._real = mask.bool().flatten() if mask is not None and mask.ndim == 2 else None

    def _count(self, place: int, chosen: torch.Tensor) -> None:
        if not (self.counting and torch.is_grad_enabled()):
            return
        if self._real is not None and len(self._real) == len(chosen):
            chosen = chosen[self._real]
        counts = self._counts[place]
        if counts.device != chosen.device:
            counts = self._counts[place] = counts.to(chosen.device)
        counts += torch.bincount(chosen.flatten(), minlength=len(counts))


def load_figures(counts: torch.Tensor) -> dict[str, float]:
    """Figures of (layers, experts) `counts`: `max_violation`, (most loaded − mean) / mean of the worst layer, and
    `max_violation_N` of each; `idle_experts`, how many had under `IDLE_SHARE` of the mean of their layer. Layers that
    nothing went through, those of multi-token prediction without training, are left out."""
    loads = counts.double()
    used = loads.sum(1) > 0
    if not bool(used.any()):
        return {}
    means = loads.mean(1)
    violations = (loads.amax(1) / means - 1)[used]
    places = (used.nonzero()[:, 0] + 1).tolist()
    by_layer = {f"max_violation_{n}": v for n, v in zip(places, violations.tolist(), strict=True)}
    idle = int((loads < IDLE_SHARE * means[:, None]).sum())
    return {"max_violation": violations.max().item(), "idle_experts": idle, **by_layer}


def check_balance(routers: Routers, balance: BalanceSettings, model: nn.Module) -> None:
    """Raises ValueError where biases are to be moved that the model does not have."""
    if balance.bias_rate and not routers.biased:
        raise ValueError(
            f"balance.bias_rate is {balance.bias_rate:g}, but {type(model).__name__} has no routers with a balancing "
            f"bias ({ROUTER_BIAS}) to change; set it to 0, or take a model that has them, such as DeepSeek-V3"
        )


def _is_router(module: nn.Module) -> bool:
    """transformers' routers give (logits, weights, chosen experts), each a row a token."""
    return type(module).__name__.lower().endswith("topkrouter") and isinstance(
        getattr(module, "num_experts", None), int
    )
