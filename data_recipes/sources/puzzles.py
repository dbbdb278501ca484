"""Countdown: numbers, a target, and an expression that reaches it."""

import hashlib
import random
from dataclasses import dataclass

from pipeline.core.errors import ConfigError

MOST_TRIES = 20_000

EVAL_SHARE = 10
"""One puzzle in this many belongs to the held-out split, decided by its hash."""


@dataclass(frozen=True)
class Countdown:
    numbers: tuple[int, ...]
    target: int
    solution: str

    @property
    def key(self) -> str:
        """The puzzle whatever the order of its numbers: `3 5 25 -> 40`."""
        return f"{' '.join(map(str, sorted(self.numbers)))} -> {self.target}"

    @property
    def held_out(self) -> bool:
        return int.from_bytes(hashlib.sha256(self.key.encode()).digest()[:4], "big") % EVAL_SHARE == 0


def sample_countdown(
    rng: random.Random, numbers: tuple[int, int], largest: int, target: tuple[int, int], held_out: bool | None
) -> Countdown:
    """A puzzle of `numbers[0]`..`numbers[1]` numbers from 1..largest with a target in `target[0]`..`target[1]`, from
    the asked split (None: from both). Made from its solution, in which every partial result is a whole number over 0.
    """
    for _ in range(MOST_TRIES):
        drawn = [rng.randint(1, largest) for _ in range(rng.randint(*numbers))]
        terms = [(number, str(number)) for number in drawn]
        while len(terms) > 1:
            one, other = (terms.pop(rng.randrange(len(terms))) for _ in range(2))
            terms.append(_joined(rng, one, other))
        [(value, expression)] = terms
        puzzle = Countdown(tuple(drawn), value, expression.removeprefix("(").removesuffix(")"))
        if target[0] <= value <= target[1] and held_out in (None, puzzle.held_out):
            return puzzle
    raise ConfigError(
        f"countdown: no puzzle of {numbers[0]} to {numbers[1]} numbers up to {largest} with a target "
        f"from {target[0]} to {target[1]} was found in {MOST_TRIES} tries. Widen largest or target."
    )


def _joined(rng: random.Random, one: tuple[int, str], other: tuple[int, str]) -> tuple[int, str]:
    (high, left), (low, right) = sorted((one, other), reverse=True)
    signs = ["+", "*"] + ["-"] * (high > low) + ["/"] * (high % low == 0)
    sign = rng.choice(signs)
    value = {"+": high + low, "*": high * low, "-": high - low, "/": high // low}[sign]
    return value, f"({left} {sign} {right})"


def ask_countdown(puzzle: Countdown) -> str:
    numbers = ", ".join(map(str, puzzle.numbers))
    return f"Reach {puzzle.target} with the numbers {numbers}. Use each once, with +, -, *, / and parentheses."
