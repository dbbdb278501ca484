"""Training a multi-token prediction module beside a policy in RL, which learns from rewards alone."""

import torch

from pipeline.core.causal_lm import multi_token_modules


class FollowsPolicy:
    """Mixin for a trainer on packed batches; list it before `transformers.Trainer`.

    With `settings.mtp_weight` the model's module learns to predict what the policy wrote (DeepSeek-V3, arXiv
    2412.19437, equation 24), so that it goes on drafting well. No gradient of it reaches the policy, and its gradient
    is clipped by itself: the policy's update is what it would be without.
    """

    _further: torch.Tensor | None = None
    """Log-probabilities of the module, of the last pass with a gradient."""

    def forward_packed(self, model, batch, entropy: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What `model(packed=batch)` gives; of passes with a gradient what the module gives is kept."""
        if not self.settings.mtp_weight or not torch.is_grad_enabled():
            return model(packed=batch, entropy=entropy)
        log_probs, entropies, self._further = model(packed=batch, entropy=entropy, ahead=True, detached=True)
        return log_probs, entropies

    def module_loss(self, figures: dict[str, torch.Tensor], tokens: float) -> torch.Tensor | float:
        """The module's weighted loss of the last pass, summed over its tokens and divided by `tokens`, those of the
        step; its mean goes into `figures`. 0 without a weight."""
        if not self.settings.mtp_weight:
            return 0.0
        if self._further is None:
            raise ValueError(
                f"mtp_weight is {self.settings.mtp_weight:g}, but this run trains without packing, which the module "
                "needs; set speedups.packing: true, or mtp_weight: 0"
            )
        further, self._further = self._further, None
        figures["mtp_loss"] = -further.detach().sum() / max(1, len(further))
        return -self.settings.mtp_weight * further.sum() / tokens

    def _clip_grad_norm(self, model):
        if not self.settings.mtp_weight:
            return super()._clip_grad_norm(model)
        weights = [weight for module in multi_token_modules(model) for weight in module.parameters()]
        kept = [(weight, weight.grad) for weight in weights if weight.grad is not None]
        self.accelerator.clip_grad_norm_([weight for weight, _ in kept], self.args.max_grad_norm)
        for weight, _ in kept:
            weight.grad = None
        norm = super()._clip_grad_norm(model)
        for weight, gradient in kept:
            weight.grad = gradient
        return norm
