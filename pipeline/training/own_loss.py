"""Finding a loss of the user's own, without loading torch: `make check` does so before anything runs."""

import inspect
from collections.abc import Callable

from pipeline.core.errors import ConfigError
from rewards.contract import RewardError
from rewards.registry import find

PARAMETERS = ("inputs", "ratio", "settings")


def find_loss(use: str) -> Callable:
    """The function that `use` names, which is called as `PolicyTerm` says (pipeline.training.grpo.loss).

    Raises ConfigError where there is none, or where it does not take three arguments.
    """
    try:
        function = find(use)
    except RewardError as error:
        raise ConfigError(f"grpo.loss: {error}") from error
    if not callable(function):
        raise ConfigError(f"grpo.loss: {use} is a {type(function).__name__}; expected a function of {PARAMETERS}")
    try:
        inspect.signature(function).bind(*PARAMETERS)
    except TypeError as error:
        takes = inspect.signature(function)
        raise ConfigError(f"grpo.loss: {use} takes {takes}; it is called with {', '.join(PARAMETERS)}") from error
    return function
