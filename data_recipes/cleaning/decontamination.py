"""Training questions that overlap with held-out ones, found by n-grams of words."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from data_recipes.cleaning.short_questions import ShortQuestions
from pipeline.config.data import NGRAM_WORDS

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_SPOKEN = re.compile(r"[^\W_]+")
_CJK = re.compile(r"([\u3400-\u9fff])")


def words(text: str) -> tuple[str, ...]:
    """Lower-case words, numbers and operators; a Chinese character is a word."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(_WORD.findall(_CJK.sub(r" \1 ", plain)))


class HeldOut:
    """Held-out texts by the set that they belong to: whole, and as n-grams of their words and numbers.

    Operators, punctuation and the marks of formulas are no words of an n-gram: they come in runs that texts share
    without having anything to do with each other. A text of fewer than n words is matched with its operators, so that
    2+3 is not 2-3: whole, but for a word more or less, or inside a longer text (`ShortQuestions`).
    """

    def __init__(
        self,
        sets: Mapping[str, Iterable[str]],
        n: int = NGRAM_WORDS,
        whole: Mapping[str, Iterable[str]] | None = None,
    ):
        """`whole` are sets whose texts are matched whole alone: a recipe asks each of its questions in the same words,
        and tells training from held-out questions by itself."""
        self.n = n
        self._whole: dict[tuple[str, ...], str] = {}
        self._grams: dict[tuple[str, ...], str] = {}
        for name, texts in (*sets.items(), *(whole or {}).items()):
            for text in texts:
                if found := words(text):
                    self._whole.setdefault(found, name)
        self._short = ShortQuestions()
        for name, texts in sets.items():
            for text in texts:
                grams = list(self._ngrams(words(text)))
                for gram in grams:
                    self._grams.setdefault(gram, name)
                if not grams:
                    self._short.add(text, name)

    def overlap(self, text: str) -> str | None:
        """The held-out set that has the text, or shares an n-gram with it; None for no set."""
        found = words(text)
        shared = (self._grams[gram] for gram in self._ngrams(found) if gram in self._grams)
        return self._whole.get(found) or next(shared, None) or self._short.find(text)

    def _ngrams(self, found: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
        spoken = tuple(word for word in found if _SPOKEN.fullmatch(word))
        return (spoken[start : start + self.n] for start in range(len(spoken) - self.n + 1))
