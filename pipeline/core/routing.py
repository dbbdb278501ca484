"""Which experts the routers of a mixture of experts choose for each token: read from a model's passes, or prescribed.

transformers' routers give (logits, weights, chosen experts), each a row a token, and choose by `torch.topk`.
"""

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pipeline.core.causal_lm import multi_token_modules


def is_router(module: nn.Module) -> bool:
    return type(module).__name__.lower().endswith("topkrouter") and isinstance(
        getattr(module, "num_experts", None), int
    )


def main_routers(model: nn.Module) -> list[nn.Module]:
    """The routers in the order of the layers, without those of multi-token prediction modules."""
    ahead = {id(inner) for module in multi_token_modules(model) for inner in module.modules()}
    return [module for module in model.modules() if is_router(module) and id(module) not in ahead]


def held_as(experts: int) -> torch.dtype:
    """The smallest type that holds the number of any of so many experts."""
    return torch.uint8 if experts <= 256 else torch.int16


class Recorded:
    """What routers have chosen in the passes of `recording`, each over the same rows of further tokens."""

    def __init__(self, routers: Sequence[nn.Module]):
        self._chosen: list[list[torch.Tensor]] = [[] for _ in routers]

    def saw(self, place: int, experts: int, chosen: torch.Tensor) -> None:
        self._chosen[place].append(chosen.to(held_as(experts)))

    def of(self, rows: int) -> torch.Tensor:
        """(rows, tokens, layers, experts of a token), on the CPU."""
        layers = [torch.cat([c.view(rows, -1, c.shape[-1]) for c in passes], dim=1) for passes in self._chosen]
        return torch.stack(layers, dim=2).cpu()


@contextlib.contextmanager
def recording(routers: Sequence[nn.Module]) -> Iterator[Recorded]:
    recorded = Recorded(routers)
    handles = [
        router.register_forward_hook(
            lambda module, args, output, place=place: recorded.saw(place, module.num_experts, output[2])
        )
        for place, router in enumerate(routers)
    ]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def prescribe(router: nn.Module, given: Callable[[], torch.Tensor | None]) -> None:
    """From now on `router` chooses what `given` says, (tokens, experts of a token), where it says anything. The weights
    are those that the router gives these experts, by its own formula and with its gradient.

    Raises ValueError in a pass where the router does not choose by `torch.topk`.
    """
    original = router.forward

    def forward(self, *args, **kwargs):
        experts = given()
        if experts is None:
            return original(*args, **kwargs)
        with _Prescribed(self, experts) as choice:
            output = original(*args, **kwargs)
        if not choice.made:
            raise ValueError(
                f"{type(self).__name__} does not choose experts by torch.topk, so that they cannot be prescribed; "
                "set routing_replay: false"
            )
        return output

    router.forward = types.MethodType(forward, router)


class _Prescribed(TorchFunctionMode):
    """Has `topk` over a router's experts give these ones, and over its groups of experts those that they are in."""

    def __init__(self, router: nn.Module, experts: torch.Tensor):
        super().__init__()
        self._experts, self._of = experts, router.num_experts
        self._groups = getattr(router, "num_group", None)
        self.made = False

    def __torch_function__(self, func, kinds, args=(), kwargs=None):
        if func not in (torch.topk, torch.Tensor.topk):
            return func(*args, **(kwargs or {}))
        scores = args[0]
        if scores.shape == (len(self._experts), self._of):
            self.made = True
            return torch.return_types.topk((scores.gather(1, self._experts), self._experts))
        if scores.shape == (len(self._experts), self._groups):
            marks = torch.zeros_like(scores).scatter_(1, self._experts // (self._of // self._groups), 1)
            return func(marks, *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))
