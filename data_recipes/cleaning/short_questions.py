"""Finds held-out questions that are too short for n-grams, without mistaking similar questions for them.

Two short questions are the same here where they have the same numbers and operators in the same order, and the words of
one are those of the other but for a word more or less, or stand in the other as they are. Case, width, punctuation,
the marks of formulas and thousands commas are no difference.
"""

import re
import unicodedata
from collections.abc import Iterable

CONTAINED_WORDS = 4
"""Words that a held-out question must have to be looked for inside longer texts: fewer occur by chance."""
_SPELLINGS = {
    "−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "∕": "/", "≤": "<=", "≥": ">=",
    "\\times": " * ", "\\cdot": " * ", "\\div": " / ", "\\leq": " <= ", "\\geq": " >= ", "\\left": " ", "\\right": " ",
}  # fmt: skip
_SPELLED = re.compile("|".join(re.escape(one) for one in sorted(_SPELLINGS, key=len, reverse=True)))
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
_CJK = re.compile(r"([\u3400-\u9fff])")
_PIECE = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?|[+\-*/=<>^%]|(?<=[\d)])!")

Marks = tuple[str, ...]
Words = tuple[str, ...]


def split(text: str) -> tuple[Marks, Words]:
    """(numbers and operators, words) of a text, each in their order; a Chinese character is a word."""
    plain = unicodedata.normalize("NFKC", text).lower()
    plain = _SPELLED.sub(lambda found: _SPELLINGS[found[0]], plain)
    plain = _CJK.sub(r" \1 ", _HYPHEN.sub(" ", _THOUSANDS.sub("", plain)))
    pieces = _PIECE.findall(plain)
    return tuple(p for p in pieces if not p[0].isalpha()), tuple(p for p in pieces if p[0].isalpha())


class ShortQuestions:
    """Short held-out questions by the set that they belong to. A look-up takes time linear in the text."""

    def __init__(self):
        self._whole: dict[tuple[Marks, Words], str] = {}
        self._shorter: dict[tuple[Marks, Words], str] = {}
        """With one of their words left out."""
        self._contained: dict[Marks, set[int]] = {}
        """Of those that are looked for inside longer texts: their numbers of words."""
        self._longest = 0

    def add(self, text: str, name: str) -> None:
        marks, words = split(text)
        if not words:
            return
        self._whole.setdefault((marks, words), name)
        self._longest = max(self._longest, len(words))
        for shorter in filter(None, _one_left_out(words)):
            self._shorter.setdefault((marks, shorter), name)
        if len(words) >= CONTAINED_WORDS:
            self._contained.setdefault(marks, set()).add(len(words))

    def find(self, text: str) -> str | None:
        """The set of a held-out question that the text is, or holds; None for no set."""
        marks, words = split(text)
        alike = [words, *(_one_left_out(words) if len(words) <= self._longest + 1 else ())]
        for length in self._contained.get(marks, ()):
            alike += [words[start : start + length] for start in range(len(words) - length + 1)]
        found = (self._whole[marks, one] for one in alike if (marks, one) in self._whole)
        return next(found, None) or self._shorter.get((marks, words))


def _one_left_out(words: Words) -> Iterable[Words]:
    return (words[:place] + words[place + 1 :] for place in range(len(words)))
