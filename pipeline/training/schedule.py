"""The learning rate of a run that a token budget ends."""

from collections.abc import Callable

from torch.optim.lr_scheduler import LambdaLR


class FallsByBudget:
    """Mixin; list it before `transformers.Trainer`."""

    token_budget: int | None = None
    """Tokens after which training ends, whatever its number of steps; to be set before it begins."""

    def create_scheduler(self, num_training_steps: int, optimizer=None) -> LambdaLR:
        made = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if made and self.token_budget:
            warmup_steps = self.args.get_warmup_steps(num_training_steps)
            follow_budget(scheduler, warmup_steps, num_training_steps, self._spent)
        return scheduler

    def _spent(self) -> float:
        """Share of the budget."""
        return self.state.num_input_tokens_seen / self.token_budget


def follow_budget(scheduler: LambdaLR, warmup_steps: int, steps: int, used: Callable[[], float]) -> None:
    """Adapts `scheduler`, made for `steps` steps, to the steps that the budget allows.

    `used` returns the share of the budget that is spent. After the warm-up, which is unchanged, the rate follows that
    share: with half of the budget spent it is the rate at half of the steps.
    """
    scheduler.lr_lambdas = [_followed(factor, warmup_steps, steps, used) for factor in scheduler.lr_lambdas]


def _followed(factor: Callable[[float], float], warmup_steps: int, steps: int, used: Callable[[], float]):
    def followed(step: int) -> float:
        return factor(step) if step < warmup_steps else factor(min(steps, max(step, used() * steps)))

    return followed
