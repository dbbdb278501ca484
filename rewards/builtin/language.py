"""The language-consistency reward: which language is the chain of thought written in?

The paper's definition: the share of target-language words in the chain of thought. What is a word here:

- a run of Latin letters; each Chinese character (Chinese sets no blanks between words); a run of any other script;
- not: digits, operators, formulas, code, tags, single letters (variables), names of functions and units.

A word's language follows from its script. Languages in Latin script are distinguished sentence by sentence, by
function words and accents; a sentence without any of these counts as English.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rewards.contract import Reward, RewardError
from rewards.response import split_response, whole_text
from rewards.spans import Between, without

NOT_LANGUAGE: tuple[Between | re.Pattern[str], ...] = (
    Between(re.compile("```"), re.compile("```"), longest=20_000, open_end=True),
    re.compile(r"`[^`\n]{1,500}`"),
    re.compile(r"\$\$[^$]{1,2000}\$\$|(?<!\\)\$[^$\n]{1,500}\$"),
    Between(re.compile(r"\\\("), re.compile(r"\\\)"), longest=500, shortest=1, one_line=True),
    Between(re.compile(r"\\\["), re.compile(r"\\\]"), longest=2000, shortest=1),
    Between(re.compile(r"\\begin\{([a-z*]{1,20})\}"), re.compile(r"\\end\{([a-z*]{1,20})\}"), longest=5000),
    re.compile(r"</?[A-Za-z]{1,20}>|https?://\S+|\\[A-Za-z]+"),
    re.compile(r"(?<![A-Za-z])(?:[A-Za-z]*+[0-9_][A-Za-z0-9_]*|[A-Za-z]++\([^()\n]{0,80}\))"),
)
"""Code, formulas, tags, addresses and names, in the order in which they are taken out."""
SYMBOLS = frozenset(
    "sin cos tan log ln exp sqrt mod gcd lcm max min lim det deg pi cm mm km kg ml ok qed iff def int str".split()  # noqa: SIM905
)
LATIN_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]+(?:['’][A-Za-z]+)?")
SENTENCE_END = re.compile(r"[.!?。！？\n;；]+")
SCRIPTS = {
    "zh": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]"),
    "ja": re.compile(r"[\u3040-\u30ff]+"),
    "ko": re.compile(r"[\uac00-\ud7af]+"),
    "ru": re.compile(r"[\u0400-\u04ff]+"),
    "el": re.compile(r"[\u0370-\u03ff]{2,}"),
    "ar": re.compile(r"[\u0600-\u06ff]+"),
    "he": re.compile(r"[\u0590-\u05ff]+"),
    "hi": re.compile(r"[\u0900-\u097f]+"),
    "th": re.compile(r"[\u0e00-\u0e7f]+"),
}
FUNCTION_WORDS = {
    "en": "the of and to in is that it for was on are as with be this have from or by not but what all we can so if "
    "then let first there which now wait answer",
    "fr": "le la les des du une et est dans que qui pour pas sur avec ce sont nous donc alors plus par mais il elle on",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für dem wir also dann auch wird sind es als aus",
    "es": "el los las una y es de que en por con para del se no como entonces más pero son lo al su si esto",
    "it": "il gli una e è di che per con non sono del della si come quindi allora più ma lo questo anche nel",
    "pt": "o os as uma e é de que em por com para do da se não como então mais mas são no na isso ao",
}
ACCENTS = {"fr": "éèêàùçœîôû", "de": "äöüß", "es": "ñáíóúé", "it": "àèìòù", "pt": "ãõçáéíóúâê"}
LANGUAGES = (*FUNCTION_WORDS, *SCRIPTS)
_MARKERS = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}


def language_share(text: str, language: str) -> float | None:
    """The share of the words of the chain of thought that are in `language`, in [0, 1]; None where there are no words.

    `text` is the chain of thought, or a whole completion with think tags, of which only the chain of thought is read.
    `language` is an ISO 639-1 code; raises `RewardError` for one that is not in `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise RewardError(f"language {language!r} is not known; known: {', '.join(LANGUAGES)}")
    words = count_words(chain_of_thought(text))
    total = sum(words.values())
    return words[language] / total if total else None


def chain_of_thought(text: str) -> str:
    """Return the reasoning of a completion with think tags; a text without tags counts as reasoning."""
    thinking = split_response(text).thinking
    return text if thinking is None else thinking


def count_words(text: str) -> Counter[str]:
    """How many words of each language the text holds."""
    for kind in NOT_LANGUAGE:
        text = without(text, kind) if isinstance(kind, Between) else kind.sub(" ", text)
    words: Counter[str] = Counter()
    for sentence in SENTENCE_END.split(text):
        scripts = Counter({language: len(pattern.findall(sentence)) for language, pattern in SCRIPTS.items()})
        if scripts["ja"]:
            scripts["ja"] += scripts.pop("zh", 0)  # Japanese writes Chinese characters between its own
        words += scripts
        latin = [word.casefold() for word in LATIN_WORD.findall(sentence)]
        latin = [word for word in latin if len(word) > 1 and word not in SYMBOLS]
        if latin:
            words[latin_language(latin)] += len(latin)
    return words


def latin_language(words: Sequence[str]) -> str:
    """The language of a sentence in Latin script, by its function words and accents; English if none is found."""
    scores = {language: sum(word in markers for word in words) for language, markers in _MARKERS.items()}
    for language, accents in ACCENTS.items():
        scores[language] += sum(any(accent in word for accent in accents) for word in words)
    return max(scores, key=lambda language: (scores[language], language == "en"))


class Language(Reward):
    """The share of target-language words in the chain of thought (the paper's language consistency), from 0 to 1.

    The target is the row's `language`, or the argument `language` where it is given. None for a completion without
    words in its chain of thought, and for a row without a language.
    """

    name = "language"

    def __init__(self, language: str | None = None):
        if language is not None and language not in LANGUAGES:
            raise RewardError(f"reward language: language is {language!r}; known: {', '.join(LANGUAGES)}")
        self.language = language

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        targets = [self.language] * len(completions) if self.language else columns.get("language")
        if targets is None:
            raise RewardError("reward language: the data has no column 'language'; add it, or set args: {language: en}")
        scores: list[float | None] = []
        for prompt, completion, target in zip(prompts, completions, targets, strict=True):
            thinking = split_response(whole_text(prompt, completion)).thinking
            scores.append(language_share(thinking, target) if thinking and target else None)
        return scores
