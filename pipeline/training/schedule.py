"""The learning rate of a run that a token budget ends."""

from collections.abc import Callable

from torch.optim.lr_scheduler import LambdaLR


class FallsByBudget:
    """Goes left of a `transformers.Trainer` among the bases of a class."""

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
    """Lets `scheduler`, made for `steps` steps, fall over those that are really made.

    `used` gives the share of the budget that is spent. After the warm-up, whose steps stay what they are, the rate is
    that of the step at which a run without a budget would have as much behind it: half of the budget is half of the
    way, whatever step it was reached at.
    """
    scheduler.lr_lambdas = [_followed(factor, warmup_steps, steps, used) for factor in scheduler.lr_lambdas]


def _followed(factor: Callable[[float], float], warmup_steps: int, steps: int, used: Callable[[], float]):
    def followed(step: int) -> float:
        return factor(step) if step < warmup_steps else factor(min(steps, max(step, used() * steps)))

    return followed
