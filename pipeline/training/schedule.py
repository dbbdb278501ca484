"""Runs that a budget ends, and their learning rate, which falls by the share that is spent."""

from collections.abc import Callable

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback


class Spending:
    """What a run has spent of its budgets, over all attempts. Of a budget that is None nothing is spent."""

    def __init__(
        self,
        tokens: int | None,
        completion_tokens: int | None,
        seconds: float | None,
        written: int = 0,
        passed: float = 0.0,
    ):
        """`written` completion tokens and `passed` seconds were spent before this attempt."""
        self.tokens, self.completion_tokens, self.seconds = tokens, completion_tokens, seconds
        self.written, self.passed = written, passed

    def share(self, seen: int) -> float:
        """Of the budget that is spent most, where prompts and completions of all rollouts have `seen` tokens."""
        spent = ((seen, self.tokens), (self.written, self.completion_tokens), (self.passed, self.seconds))
        return max((much / budget for much, budget in spent if budget is not None), default=0.0)


class FallsByBudget:
    """Mixin; list it before `transformers.Trainer`."""

    spending: Spending | None = None
    """The budgets that end training, whatever its number of steps; to be set before it begins."""

    def create_scheduler(self, num_training_steps: int, optimizer=None) -> LambdaLR:
        made = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if made and self.spending:
            warmup_steps = self.args.get_warmup_steps(num_training_steps)
            follow_budget(scheduler, warmup_steps, num_training_steps, self._spent)
        return scheduler

    def _spent(self) -> float:
        """Share of the budget."""
        return self.spending.share(self.state.num_input_tokens_seen)


class EndsByBudget(TrainerCallback):
    """Counts what each step spends, and ends training once a budget of the trainer's `spending` is passed."""

    def __init__(self, trainer):
        self._trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        trainer, spending = self._trainer, self._trainer.spending
        spending.written += trainer.figures.record.get("rollout_tokens", 0)
        here = trainer.figures.step_seconds if trainer.accelerator.is_main_process else 0.0
        spending.passed += trainer.totals([here])[0]  # one clock, so that all processes stop at one step
        if spending.share(state.num_input_tokens_seen) >= 1:
            control.should_training_stop = True


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
