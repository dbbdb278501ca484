"""Training questions that overlap with held-out ones, found by n-grams of words."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

NGRAM_WORDS = 10
"""The paper's length (DeepSeek-R1, evaluation: 10-gram matches in questions or solutions)."""

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_CJK = re.compile(r"([\u3400-\u9fff])")


def words(text: str) -> tuple[str, ...]:
    """Lower-case words, numbers and operators; a Chinese character is a word."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(_WORD.findall(_CJK.sub(r" \1 ", plain)))


class HeldOut:
    """The n-grams of held-out texts by the set that they belong to. A text shorter than n words counts as one n-gram of
    its own length, so that a short question is matched whole."""

    def __init__(self, sets: Mapping[str, Iterable[str]], n: int = NGRAM_WORDS):
        self.n = n
        self._set_of: dict[tuple[str, ...], str] = {}
        for name, texts in sets.items():
            for text in texts:
                found = words(text)
                for gram in _ngrams(found, min(n, len(found))) if found else ():
                    self._set_of.setdefault(gram, name)

    def overlap(self, text: str) -> str | None:
        """The held-out set that the text shares an n-gram with, or a short text of which it is; None for no set."""
        found = words(text)
        if len(found) < self.n:
            return self._set_of.get(found)
        return next((self._set_of[gram] for gram in _ngrams(found, self.n) if gram in self._set_of), None)


def _ngrams(found: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    return (found[start : start + size] for start in range(len(found) - size + 1))
