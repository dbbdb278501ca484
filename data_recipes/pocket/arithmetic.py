"""Chains of additions and subtractions, asked and reasoned about in English or Chinese."""

import hashlib
import random
from dataclasses import dataclass

LANGUAGES = ("en", "zh")
LARGEST = 99
TERMS = (3, 8)
LARGEST_MOVE = 29
QUESTIONS = {
    "en": ("What is {e}?", "Compute {e}."),
    "zh": ("{e}等于多少？", "计算{e}。"),
}
STEP_WORDS = {"en": ("First ", " Then "), "zh": ("先算", "再算")}
STEP_END = {"en": ".", "zh": "。"}
OPENING = {"en": "I work it out. ", "zh": "我来算。"}
WAIT = {"en": " Wait, ", "zh": "等等，"}
CHECK = {"en": " Wait, check again. ", "zh": "等等，再检查。"}
SUMMARY = {"en": "The answer is {a}.", "zh": "答案是{a}。"}
EVAL_SHARE = 10
"""One expression in this many belongs to the held-out split, decided by its hash."""


@dataclass(frozen=True)
class Chain:
    """`terms[0]`, then each (sign, number) of `terms[1:]` applied from left to right; every partial result is in
    0..99."""

    start: int
    moves: tuple[tuple[str, int], ...]

    @property
    def expression(self) -> str:
        return str(self.start) + "".join(f"{sign}{number}" for sign, number in self.moves)

    @property
    def answer(self) -> int:
        return self.start + sum(number if sign == "+" else -number for sign, number in self.moves)

    @property
    def held_out(self) -> bool:
        """Whether the expression is in the held-out split: a property of the expression alone, so that no seed,
        language or phrasing can put it into training data."""
        return int.from_bytes(hashlib.sha256(self.expression.encode()).digest()[:4], "big") % EVAL_SHARE == 0


def sample_chain(rng: random.Random, terms: tuple[int, int], largest_move: int, held_out: bool | None) -> Chain:
    """Draws a chain of `terms[0]`..`terms[1]` numbers from the asked split (None: from both)."""
    while True:
        value = start = rng.randint(1, 60)
        moves = []
        for _ in range(rng.randint(*terms) - 1):
            number = rng.randint(1, largest_move)
            sign = rng.choice("+-")
            if not 0 <= (value + number if sign == "+" else value - number) <= LARGEST:
                sign = "-" if sign == "+" else "+"
            value += number if sign == "+" else -number
            moves.append((sign, number))
        chain = Chain(start, tuple(moves))
        if held_out is None or chain.held_out == held_out:
            return chain


def ask(rng: random.Random, chain: Chain, language: str) -> str:
    return rng.choice(QUESTIONS[language]).format(e=chain.expression)


def slipped(rng: random.Random, right: int) -> int:
    """A wrong result that is easily taken for the right one."""
    return max(0, right + rng.choice((-10, -2, -1, 1, 2, 10)))


def other_language(language: str) -> str:
    return "zh" if language == "en" else "en"


def reason(
    rng: random.Random, chain: Chain, language: str, slip: float = 0.0, switch: float = 0.0, notice: float = 0.0
) -> tuple[str, int, str]:
    """A worked solution, its result and the language it ended in.

    `slip` is the chance of a wrong result in each step, `notice` the chance that a slip is seen and the step done
    again (else later steps go on from it), `switch` the chance of changing language before each step.
    """
    parts, value = [], chain.start
    for index, (sign, number) in enumerate(chain.moves):
        right = result = value + number if sign == "+" else value - number
        if rng.random() < slip:
            result = slipped(rng, right)
        if rng.random() < switch:
            language = other_language(language)
        parts.append(f"{STEP_WORDS[language][index > 0]}{value}{sign}{number}={result}{STEP_END[language]}")
        if result != right and rng.random() < notice:
            parts.append(f"{WAIT[language]}{value}{sign}{number}={right}{STEP_END[language]}")
            result = right
        value = result
    return "".join(parts), value, language
