"""Puzzles solved by trying: which number to leave out so that the others add up to a target.

A try takes the others off the target: it was right if nothing is left. Nothing shows before which one it will be, so
whoever looks at what is left, and goes on after a miss, is right more often than whoever answers after one try.
"""

import hashlib
import random
from dataclasses import dataclass

from data_recipes.pocket import arithmetic as A

NUMBERS = (3, 4)
LARGEST = 19
QUESTIONS = {
    "en": ("Leave out one of {n} to make {t}.", "Which of {n} do you leave out to make {t}?"),
    "zh": ("{n}去掉哪个得{t}？", "从{n}去掉一个，得{t}。"),
}
BETWEEN = {"en": ", ", "zh": "、"}
BETWEEN_SENTENCES = {"en": " ", "zh": ""}
TRY = {"en": "Try {n}: ", "zh": "试{n}："}
TRY_AGAIN = {"en": "try {n}: ", "zh": "试{n}："}
"""After `arithmetic.WAIT`."""
EVAL_SHARE = 10
"""One set of numbers in this many belongs to the held-out split, decided by its hash."""


@dataclass(frozen=True)
class Puzzle:
    """Distinct `numbers`, so that just one of them, the answer, leaves `target` as the sum of the others."""

    numbers: tuple[int, ...]
    answer: int

    @property
    def target(self) -> int:
        return sum(self.numbers) - self.answer

    @property
    def key(self) -> str:
        """The same for every order of the numbers."""
        return f"{','.join(map(str, sorted(self.numbers)))} {self.target}"

    @property
    def held_out(self) -> bool:
        """Whether the puzzle is in the held-out split: a property of its numbers in any order, so that no target,
        seed, language or phrasing can put it into training data."""
        numbers = ",".join(map(str, sorted(self.numbers)))
        return int.from_bytes(hashlib.sha256(numbers.encode()).digest()[:4], "big") % EVAL_SHARE == 0


def sample_puzzle(rng: random.Random, numbers: tuple[int, int], largest: int, held_out: bool | None) -> Puzzle:
    """Draws a puzzle of `numbers[0]`..`numbers[1]` numbers from the asked split (None: from both). No sum of the
    others is above 99, whichever number is left out."""
    while True:
        drawn = tuple(rng.sample(range(1, largest + 1), rng.randint(*numbers)))
        puzzle = Puzzle(drawn, rng.choice(drawn))
        if sum(drawn) - min(drawn) <= A.LARGEST and (held_out is None or puzzle.held_out == held_out):
            return puzzle


def ask(rng: random.Random, puzzle: Puzzle, language: str) -> str:
    numbers = BETWEEN[language].join(map(str, puzzle.numbers))
    return rng.choice(QUESTIONS[language]).format(n=numbers, t=puzzle.target)


def reason(
    rng: random.Random, puzzle: Puzzle, language: str, slip: float = 0.0, switch: float = 0.0, persist: float = 1.0
) -> tuple[str, int, str]:
    """Tries in the order of the numbers, the number that was tried last, and the language it ended in.

    `persist` is the chance of going on after a try that missed; `slip` that of a wrong result in each step; `switch`
    that of changing language before each step.
    """
    parts: list[str] = []
    for left_out in puzzle.numbers:
        opener = A.WAIT[language] + TRY_AGAIN[language] if parts else TRY[language]
        parts.append(opener.format(n=left_out))
        value = puzzle.target
        for place, number in enumerate(n for n in puzzle.numbers if n != left_out):
            if rng.random() < switch:
                language = A.other_language(language)
            taken = f"{A.STEP_WORDS[language][1] if place else ''}{value}-{number}"
            if number > value:
                parts.append(f"{taken}<0{A.STEP_END[language]}")
                value = -1
                break
            value = A.slipped(rng, value - number) if rng.random() < slip else value - number
            parts.append(f"{taken}={value}{A.STEP_END[language]}")
        if value == 0 or rng.random() >= persist:
            break
    return "".join(parts), left_out, language
