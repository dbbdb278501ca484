"""Training questions that overlap with held-out ones, found by n-grams of words."""

import re
import unicodedata
from collections.abc import Iterable

NGRAM_WORDS = 10
"""The paper's length (DeepSeek-R1, evaluation: 10-gram matches in questions or solutions)."""

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_CJK = re.compile(r"([\u3400-\u9fff])")


def words(text: str) -> tuple[str, ...]:
    """Lower-case words, numbers and operators; a Chinese character is a word."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(_WORD.findall(_CJK.sub(r" \1 ", plain)))


class HeldOut:
    """The n-grams of held-out texts. A text shorter than n words counts as one n-gram of its own length, so that a
    short question is matched whole."""

    def __init__(self, texts: Iterable[str], n: int = NGRAM_WORDS):
        self.n = n
        self._grams: dict[int, set[tuple[str, ...]]] = {}
        for text in texts:
            found = words(text)
            size = min(n, len(found))
            if size:
                self._grams.setdefault(size, set()).update(_ngrams(found, size))

    def overlaps(self, text: str) -> bool:
        """Whether the text shares an n-gram with a held-out text, or is a short held-out text itself."""
        found = words(text)
        if len(found) < self.n:
            return found in self._grams.get(len(found), ())
        return any(gram in self._grams.get(self.n, ()) for gram in _ngrams(found, self.n))


def _ngrams(found: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    return (found[start : start + size] for start in range(len(found) - size + 1))
