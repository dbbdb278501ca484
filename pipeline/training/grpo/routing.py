"""Routing that agrees between rollouts and training (arXiv 2510.11370).

Where rounding differs, a router may choose other experts in the trainer's pass than it did in the engine: the policy
that trains is then not the one that wrote.
"""

import contextlib
from collections.abc import Iterator

import torch

from pipeline.core.routing import main_routers, prescribe
from pipeline.training.packed.losses import without_adapters


class RolloutRouting:
    """The experts that a trainer's packed passes use, beside those that the engine chose for the same tokens.

    Where the engine tells them, the policy's own choice is compared with them as long as it is the policy that wrote.
    With `routing_replay` all passes of the policy, and of its reference, use the engine's experts with weights by their
    own routers: the reference too, so that the KL term compares weights and not roundings. A teacher routes by itself.

    Raises ValueError where experts are to be replayed that are not told, or that the model does not have.
    """

    def __init__(self, trainer):
        self.replay = trainer.settings.routing_replay
        self.compared = torch.zeros(2, dtype=torch.long)
        """(token, layer) pairs that were routed otherwise than in the engine, and pairs compared."""
        self._comparing = True
        self._given: dict[int, torch.Tensor | None] = {}
        policy = without_adapters(trainer, trainer.model)
        untold = self._untold(trainer, policy)
        self.told = not untold
        """Whether the engine is asked for the experts that it chooses."""
        if self.replay and untold:
            raise ValueError(f"routing_replay is on, but {untold}; or set routing_replay: false")
        if not self.told:
            return
        self._attach(policy, compares=True)
        if self.replay and trainer.ref_model is not None:
            self._attach(without_adapters(trainer, trainer.ref_model), compares=False)

    def begins(self, fresh: bool) -> None:
        """Passes that follow are over rows whose rollout the policy of now has written (`fresh`), or an earlier one."""
        self._comparing = fresh

    @contextlib.contextmanager
    def uncompared(self) -> Iterator[None]:
        """Passes of other weights in the policy's place."""
        compared = self.compared.clone()
        yield
        self.compared = compared

    def share(self, totals) -> dict[str, float]:
        """The share of pairs routed otherwise since the last call, over all processes; nothing where none was
        compared."""
        if not self.told:
            return {}
        otherwise, pairs = totals(self.compared.tolist())
        self.compared = torch.zeros(2, dtype=torch.long)
        return {"routed_otherwise_share": otherwise / pairs} if pairs else {}

    @staticmethod
    def _untold(trainer, policy) -> str:
        """Why experts are not compared, and what to set."""
        if not main_routers(policy):
            return f"{type(policy).__name__} has no routers of experts; take a model that has, such as DeepSeek-V3"
        if not trainer.packs:
            return "experts are compared in packed passes, and this model trains without; set speedups.packing: true"
        return getattr(trainer.engine, "experts_untold", "this engine does not tell the experts that it chose")

    def _attach(self, model: torch.nn.Module, compares: bool) -> None:
        routers, key = main_routers(model), id(model)

        def note(module, args, kwargs) -> None:
            batch = kwargs.get("packed_batch")
            experts = None if batch is None else batch.experts
            if batch is not None and experts is None and self.replay:
                raise ValueError("routing_replay is on, and the engine told no experts of some completions")
            if experts is not None and experts.shape[1:] != (len(routers), routers[0].top_k):
                raise ValueError(
                    f"the engine told {experts.shape[2]} experts a token in {experts.shape[1]} layers, and the model "
                    f"that trains chooses {routers[0].top_k} in {len(routers)}"
                )
            self._given[key] = None if experts is None else experts.long()

        model.base_model.register_forward_pre_hook(note, with_kwargs=True)
        for place, router in enumerate(routers):

            def given(place=place) -> torch.Tensor | None:
                experts = self._given.get(key)
                return None if experts is None else experts[:, place]

            if compares:
                self._compare(router, given)
            if self.replay:
                prescribe(router, given)

    def _compare(self, router: torch.nn.Module, given) -> None:
        """Count in each pass what the router chooses otherwise by itself."""
        chooses = router.forward

        def before(module, args) -> None:
            experts = given()
            if experts is None or not self._comparing:
                return
            with torch.no_grad():
                own = chooses(*args)[2]
            otherwise = (own.sort(-1).values != experts.sort(-1).values).any(-1)
            self.compared += torch.tensor([int(otherwise.sum()), len(otherwise)])

        router.register_forward_pre_hook(before)
