"""Questions that stand twice in the data, word for word or nearly."""

from data_recipes.cleaning.decontamination import words
from data_recipes.question import Question

SHINGLE_WORDS = 3
PERMUTATIONS = 128


class Duplicates:
    """Remembers questions and tells those that were there before.

    Exact: the same words, whatever their case, width and spacing, with the same choices and numbers and the same
    reference response. Near, whatever the response: at least `similarity` of the 3-grams of words of both are shared
    (Jaccard). Candidates come from MinHash (Broder 1997) with locality-sensitive hashing, which finds nearly all pairs
    above the threshold; each is then compared exactly.
    """

    def __init__(self, similarity: float | None = None):
        """`similarity` 0..1; None tells exact duplicates only."""
        self.similarity = similarity
        self._seen: set[tuple] = set()
        self._shingles: list[frozenset] = []
        self._index = None
        if similarity is not None:
            from datasketch import MinHashLSH

            self._index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS, weights=(0.1, 0.9))

    def reason(self, question: Question, near: bool = True) -> str:
        """`duplicate` or, with `near`, `near_duplicate` of a question before it; '' for a new one: it is remembered."""
        found = words(question.whole)
        key = (found, question.response)
        if key in self._seen:
            return "duplicate"
        if near and self._index is not None and self._is_near(found):
            return "near_duplicate"
        self._seen.add(key)
        return ""

    def _is_near(self, found: tuple[str, ...]) -> bool:
        from datasketch import MinHash

        size = min(SHINGLE_WORDS, len(found))
        shingles = frozenset(found[start : start + size] for start in range(len(found) - size + 1))
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([" ".join(shingle).encode() for shingle in shingles])
        near = any(jaccard(shingles, self._shingles[other]) >= self.similarity for other in self._index.query(sketch))
        if not near:
            self._index.insert(len(self._shingles), sketch)
            self._shingles.append(shingles)
        return near


def jaccard(one: frozenset, other: frozenset) -> float:
    """Shared elements over all elements, 0..1."""
    return len(one & other) / len(one | other)
