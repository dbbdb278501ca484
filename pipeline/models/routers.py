"""What the routers of a mixture of experts do: how many tokens each expert gets, and the biases that even it out.

A router chooses the experts of each token. DeepSeek-V3's (arXiv 2412.19437, section 2.1.2) adds a bias to each expert's
affinity before it chooses, which no gradient moves: `Routers.balance` does.
"""

import torch
from torch import nn

from pipeline.config.experts import BalanceSettings
from pipeline.core.buffers import ROUTER_BIAS
from pipeline.core.routing import is_router

IDLE_SHARE = 0.1
"""An expert is idle where its tokens are fewer than this share of the mean of its layer."""


class Routers:
    """The routers of `model`, in the order of its layers, and what they have sent where since the last `take`.

    Counted are passes that record a gradient, and of those with a mask of padding, (rows, length), the real tokens.
    """

    def __init__(self, model: nn.Module):
        self._routers = [module for module in model.modules() if is_router(module)]
        self._counts = [torch.zeros(router.num_experts, dtype=torch.long) for router in self._routers]
        self._real: torch.Tensor | None = None
        self._sequence_weight = 0.0
        self._pass: dict = {}
        """What the model was last called with."""
        self._sequence_loss = torch.zeros(2, dtype=torch.double)
        """The sum of the sequence-wise losses since they were last taken, and of how many sequences and layers."""
        self.counting = True
        """Whether passes count: not those that stand in for nothing."""
        if self._routers:
            # Called by whatever is around it: adapters call the forward pass of the model with the head past its hooks.
            getattr(model, "base_model", model).register_forward_pre_hook(self._note_padding, with_kwargs=True)
        for place, router in enumerate(self._routers):
            router.register_forward_hook(lambda module, args, output, place=place: self._saw(place, output))

    def __len__(self) -> int:
        return len(self._routers)

    @property
    def biased(self) -> bool:
        """Whether all of them have a balancing bias."""
        return bool(self._routers) and all(
            isinstance(getattr(r, ROUTER_BIAS, None), torch.Tensor) for r in self._routers
        )

    def add_sequence_loss(self, weight: float) -> None:
        """From now on passes that count have the gradient of `sequence_loss`, times `weight`, of each layer: it comes
        with whatever gradient reaches the router's weights, so that no trainer has to know of it."""
        self._sequence_weight = weight

    def take_sequence_loss(self) -> torch.Tensor:
        """(sum of the sequence-wise losses since the last call, how many they were), in this process."""
        taken, self._sequence_loss = self._sequence_loss, torch.zeros(2, dtype=torch.double)
        return taken

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
        self._pass = {"input_ids": args[0]} | kwargs if args else kwargs
        mask = kwargs.get("attention_mask")
        self._real = mask.bool().flatten() if mask is not None and mask.ndim == 2 else None

    def _saw(self, place: int, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """Counts what a router gave: (logits, weights, chosen experts); with a sequence-wise loss, gives it in turn."""
        if not (self.counting and torch.is_grad_enabled()):
            return None
        logits, weights, chosen = output
        self._count(place, chosen)
        if not self._sequence_weight:
            return None
        losses = sequence_loss(logits, chosen.shape[-1], *_sequences(self._pass))
        self._sequence_loss += torch.tensor([losses.sum().item(), len(losses)], dtype=torch.double)
        return logits, _WithLoss.apply(weights, self._sequence_weight * losses.sum()), chosen

    def _count(self, place: int, chosen: torch.Tensor) -> None:
        if self._real is not None and len(self._real) == len(chosen):
            chosen = chosen[self._real]
        counts = self._counts[place]
        if counts.device != chosen.device:
            counts = self._counts[place] = counts.to(chosen.device)
        counts += torch.bincount(chosen.flatten(), minlength=len(counts))


def sequence_loss(logits: torch.Tensor, top_k: int, segments: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """(sequences,) sum over experts of f · P (arXiv 2412.19437, equations 17 to 20, without the weight): 1 where
    routing is even, and up to the number of experts / `top_k` where all tokens go to the same ones.

    `logits` (tokens, experts) of a router; `segments` (tokens,) says which piece of text a token is of, -1 for none,
    and `members` (sequences, segments) which pieces a sequence is made of. As in the report experts are chosen by their
    affinities alone here, without biases and groups.
    """
    inside = segments >= 0
    affinities, places = logits[inside].float().sigmoid(), segments[inside]
    chosen = torch.zeros_like(affinities).scatter_(1, affinities.topk(top_k, dim=-1).indices, 1.0)
    shares = affinities / affinities.sum(-1, keepdim=True)
    sums = [x.new_zeros(members.shape[1], x.shape[1]).index_add(0, places, x) for x in (chosen.detach(), shares)]
    members = members.to(shares.dtype)
    tokens = members @ torch.bincount(places, minlength=members.shape[1]).to(shares.dtype)[:, None]
    often, share = (members @ x / tokens.clamp(min=1) for x in sums)
    return (often * share).sum(-1) * logits.shape[-1] / top_k


class _WithLoss(torch.autograd.Function):
    """Passes `x` on, and gives a scalar loss the gradient 1 when `x` gets one."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        return grad, grad.new_ones((), dtype=torch.float32)


def _sequences(called: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """`segments` and `members` of a pass, by what the model was called with: a packed batch, or rows with a mask of
    padding or without. A row's last token predicts nothing, and is of no sequence, as in a packed batch."""
    if "packed_batch" in called:
        return called["packed_batch"].segments()
    ids, mask = called["input_ids"], called.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    predicts = torch.cat([real[:, :-1] & real[:, 1:], torch.zeros_like(real[:, :1])], dim=1)
    rows = torch.arange(len(ids), device=ids.device)
    return torch.where(predicts, rows[:, None], -1).flatten(), torch.eye(len(ids), device=ids.device)


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
    """Raises ValueError where biases are to be moved, or sequences balanced, that the model does not have."""
    wanted = {"bias_rate": balance.bias_rate, "sequence_weight": balance.sequence_weight}
    key = next((key for key, value in wanted.items() if value), None)
    if key and not routers.biased:
        raise ValueError(
            f"balance.{key} is {wanted[key]:g}, but {type(model).__name__} has no routers with a balancing "
            f"bias ({ROUTER_BIAS}) to change; set it to 0, or take a model that has them, such as DeepSeek-V3"
        )
