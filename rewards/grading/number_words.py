"""Plain numbers: reading the notations that need no computer algebra, and comparing them without rounding tricks."""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 60
"""A longer literal, or a larger power of ten, is left to the algebra system in its worker process."""

LITERAL = re.compile(
    r"""
    (?P<sign>[+\-−]?)\s*
    (?:
        (?P<grouped>[1-9][0-9]{0,2}(?:(?:,|\{,\}|\\,|[ ])[0-9]{3})+)(?P<grouped_decimals>\.[0-9]+)?
      | (?P<whole>[0-9]+)(?P<decimals>\.[0-9]*)?
      | (?P<bare_decimals>\.[0-9]+)
    )
    (?:
        (?:\s?[eE]|\s*(?:\\times|\\cdot|×|x|\*)\s*10\s*(?:\^|\*\*))\s*
        (?:\{(?P<braced_power>[+\-−]?[0-9]{1,3})\}|(?P<power>[+\-−]?[0-9]{1,3}))
    )?
    """,
    re.VERBOSE,
)
SIGNED = r"[+\-−]?\s*[0-9]{1,60}"
RATIO = re.compile(rf"(?P<top>{SIGNED})\s*[/⁄÷]\s*(?P<bottom>{SIGNED})")
LATEX_RATIO = re.compile(
    rf"(?P<sign>[+\-−]?)\s*\\[dt]?frac\s*(?:\{{\s*(?P<top>{SIGNED})\s*\}}\s*\{{\s*(?P<bottom>{SIGNED})\s*\}}"
    r"|(?P<short_top>[0-9])\s*(?P<short_bottom>[0-9]))"
)
PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*(?:percent|%|\\%)\s*\}|percent|per cent)$")

ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
SPELLED = {
    **{word: str(value) for value, word in enumerate(ONES)},
    **{word: str(10 * value) for value, word in enumerate(TENS, 2)},
    **{f"{ten} {ONES[one]}": str(10 * value + one) for value, ten in enumerate(TENS, 2) for one in range(1, 10)},
    **{f"{first} {part}": f"1/{below}" for part, below in PARTS.items() for first in ("one", "a", "an")},
    **{f"{ONES[top]} {part}s": f"{top}/{below}" for part, below in PARTS.items() for top in range(2, below)},
    "one hundred": "100", "a hundred": "100", "one thousand": "1000", "a thousand": "1000", "half": "1/2",
}  # fmt: skip
"""Numbers in words -> in digits, of the size that answers are written out in."""


def in_digits(words: str) -> str | None:
    """Convert an answer that is a number in words to digits; None for any other answer."""
    return SPELLED.get(" ".join(words.casefold().replace("-", " ").split()))


@dataclass(frozen=True)
class PlainNumber:
    """A number as it was written."""

    value: Fraction
    """Its exact value; of a percentage, the figure before the sign."""
    decimals: int | None
    """Digits after the decimal point where it was written with one, else None."""
    percent: bool = False

    def readings(self) -> tuple[tuple[Fraction, int | None], ...]:
        """Each value that the number may stand for, with the decimals that it is written to."""
        return tuple(
            (value, self.decimals if not place or self.decimals is None else self.decimals + 2)
            for place, value in enumerate(self.values())
        )

    def values(self) -> tuple[Fraction, ...]:
        """What the number may stand for: 50 % is one half, and also the 50 that the question asked for in percent."""
        return (self.value, self.value / 100) if self.percent else (self.value,)


def read_number(text: str) -> PlainNumber | None:
    """Read `text` as one plain number, or None if it is anything else; only ASCII digits count.

    Integers, decimals, thousands separators (comma, LaTeX comma, thin or plain space, in groups of three), fractions
    (`3/4`, `\\frac{3}{4}`), scientific notation and percentages.
    """
    text = text.strip()
    if not text or len(text) > 3 * MAX_DIGITS:
        return None
    percent = PERCENT.search(text)
    if percent:
        text = text[: percent.start()]
    for reader in (_read_literal, _read_ratio):
        number = reader(text)
        if number is not None:
            return PlainNumber(number.value, number.decimals, bool(percent))
    return None


def _read_literal(text: str) -> PlainNumber | None:
    match = LITERAL.fullmatch(text)
    if match is None:
        return None
    part = match.groupdict()
    whole = re.sub(r"[^0-9]", "", part["grouped"] or part["whole"] or "")
    decimals = (part["grouped_decimals"] or part["decimals"] or part["bare_decimals"] or "").removeprefix(".")
    power = (part["braced_power"] or part["power"] or "0").replace("−", "-")
    if len(whole) + len(decimals) > MAX_DIGITS or abs(int(power)) > MAX_DIGITS:
        return None
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals)) * Fraction(10) ** int(power)
    return PlainNumber(
        -value if part["sign"] in ("-", "−") else value, len(decimals) - int(power) if decimals else None
    )


def _read_ratio(text: str) -> PlainNumber | None:
    match = RATIO.fullmatch(text) or LATEX_RATIO.fullmatch(text)
    if match is None:
        return None
    part = match.groupdict()
    top, bottom = (_integer(part[end] or part.get(f"short_{end}")) for end in ("top", "bottom"))
    if bottom == 0:
        return None
    value = Fraction(top, bottom)
    return PlainNumber(-value if part.get("sign") in ("-", "−") else value, None)


def _integer(text: str) -> int:
    return int(text.replace("−", "-").replace(" ", ""))


def same_number(gold: PlainNumber, answer: PlainNumber) -> bool:
    """Whether the two stand for one value; a rounded decimal counts where the other side cannot be written out."""
    if gold.percent and answer.percent:
        return close(gold.value, gold.decimals, answer.value, answer.decimals)
    return any(close(*ours, *theirs) for ours in gold.readings() for theirs in answer.readings())


def close(gold: Fraction, gold_decimals: int | None, answer: Fraction, answer_decimals: int | None) -> bool:
    """Equal, or one is the other rounded or cut to six or more written decimals.

    Rounding is allowed only where the exact side has no finite decimal form, or both were written as decimals. There
    must be four significant digits left, so that two very small numbers are never taken for one. A gold answer of two
    or more decimals and three significant digits that is a fraction rounded to them is taken for that fraction.
    """
    if gold == answer:
        return True
    if answer_decimals is not None and (gold_decimals is not None or not terminates(gold)):
        return is_rounding(exact=gold, rounded=answer, decimals=answer_decimals)
    if gold_decimals is not None and answer_decimals is None and not terminates(answer):
        return is_rounding(exact=answer, rounded=gold, decimals=gold_decimals) or (
            gold_decimals > 1
            and abs(gold) * 10**gold_decimals >= 100
            and abs(answer - gold) <= Fraction(1, 2 * 10**gold_decimals)
        )
    return False


def is_rounding(exact: Fraction, rounded: Fraction, decimals: int) -> bool:
    if decimals < 6 or abs(rounded) * 10**decimals < 1000:
        return False
    return abs(exact - rounded) < Fraction(1, 10**decimals)


def terminates(value: Fraction) -> bool:
    """Whether the value can be written as a finite decimal."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
