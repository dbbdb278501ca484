"""The learning rate of a run that a token budget ends."""

from collections.abc import Callable

from torch.optim.lr_scheduler import LambdaLR


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
