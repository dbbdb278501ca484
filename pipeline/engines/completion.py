"""The output of a rollout engine."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(slots=True)
class Completion:
    """One sampled answer to one prompt."""

    token_ids: list[int]
    """Tokens, with the end token when the model wrote one."""
    text: str
    """The tokens decoded with special tokens (`<think>` may be one), without the end token."""
    logprobs: list[float] | None
    """Log-probability of each token under the distribution it was sampled from (temperature and top-p applied);
    for greedy decoding under the model's own distribution. None where it was not asked for."""
    finish_reason: Literal["stop", "length"]
    """`stop`: the model wrote an end token. `length`: cut at `max_tokens`."""
    spans: list[tuple[str | int, int, int]] | None = field(default=None, compare=False)
    """Which weights wrote which tokens: (`Engine.version`, first, end), every token once; in a rollout optimizer steps
    take the place of versions. None: not known."""
    experts: Any = field(default=None, compare=False)
    """A tensor (prompt and completion tokens but the last, layers, experts of a token): which experts the routers chose
    when they read each token. None where it was not asked for."""
