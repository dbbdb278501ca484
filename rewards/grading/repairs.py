r"""Notation that a file or a tool has damaged on the way: `\frac` read as an escape, HTML, commands run together; and
signs that are written as words: `negative 3`, `4 to 3`.

What is repaired can mean nothing else, in a gold answer or in an answer: no formula has a form feed in it, and LaTeX
knows no `\quadx`.
"""

import re

from rewards.grading.ornaments import without_ornaments
from rewards.grading.units import UNITS

ESCAPES = {"\x07": "a", "\x08": "b", "\x0b": "v", "\x0c": "f"}
"""Control characters that no text has, and the letters that they were read from."""
SPACED = re.compile(r"[\t\r](?=(?:ext|imes|heta|au|an|riangle|extcirc|op|ight|ho|angle|ceil|floor|rac)(?![a-z]))")
"""A tab or a return that cannot be one: `ext{` follows."""
MARKUP = re.compile(r"<(?P<tag>sup|sub)>(?P<inside>[^<>]{1,60})</(?P=tag)>")
RUN_ON = re.compile(
    r"\\(?P<name>qquad|quad|cdot|times|leq|geq|neq|approx|infty|alpha|beta|theta|lambda|pi|sqrt|cup|cap|pm|mp)"
    r"(?P<letter>[A-Za-z])(?![A-Za-z])"
)
KNOWN = frozenset(("cdotp", "cdots", "pmb", "pmod", "leqq", "geqq", "neqq", "capp"))
CIRCLED = {chr(0x2460 + place): str(place + 1) for place in range(20)}
GLUED_WORD = re.compile(r"(?<=[0-9)])(?P<word>or|and)(?=[A-Z(][\w(]*\s*[=<>(])|(?<=[0-9)])(?P<last>or|and)(?=[(\d-])")
ORDINAL = re.compile(
    r"(?<=[0-9])\s*\^?\{?\s*(?:\\(?:text|mathrm|textsuperscript|rm)\s*\{)?\s*(?:st|nd|rd|th)\b(?:\s*\}){0,2}"
)
SIGN_IN_WORDS = re.compile(r"^\s*(?:negative|minus)\s+(?=[0-9\\.$])", re.IGNORECASE)
RATIO_IN_WORDS = re.compile(r"(?<=[0-9])\s*(?:\\(?:text|mathrm)\s*\{\s*to\s*\}|(?<=\s)to(?=\s))\s*(?=[0-9])")
FRACTION_OF_NOUN = re.compile(r"^\s*+([0-9]+)\s?/\s?([0-9]+)(?=\s*\([a-z][a-z ]{2,30}\)\s*$)")
NOUN_IN_BRACKETS = re.compile(r"(?<=[0-9}%$])\s+\(\s*(?P<noun>[A-Za-z]{2,4})\s*\)(?=\s*\$?\s*$)")
"""A short noun or unit behind a number, which would else be a product of its letters."""
TIMES_AS_X = re.compile(r"(?<=[0-9])[ ]+[xX][ ]+(?=[0-9])")
PLUS_MINUS = re.compile(r"^(\s*+(?:\\?[A-Za-z]+\s*+=)?\s*+)\+\s?/?\s?[-−](?=\s*[0-9\\√(])")
"""`+-` that begins a value, where it can be no sum."""
CUBE_ROOT = re.compile(r"(?<![A-Za-z\\])cbrt\s*\(([^()]{1,60})\)")
BUILDER = re.compile(
    r"^(\s*+\$*+\s*+)(?:\\left\s*+)?\{"
    r"(\s*+[A-Za-z]\s*+(?:\\in\s[^{}|:]{1,20}|∈[^{}|:]{1,20})?(?:\\mid|\||:)[^{}]+)\}(\s*+\$*+\s*+)$"
)
"""A set written by a condition, in braces that LaTeX would not show."""
SIGN_IN_TEXT = re.compile(r"\\(?:text|mathrm)\s*\{\s*(\\?[$€£¥￥₹])\s*\}")
STRAY_POINT = re.compile(r"(?<=[})\]0-9a-z])\.(?=\s*[)\]]\s*$)")


def repaired(text: str) -> str:
    """The text as it was before it was damaged, without ornaments; any other text as it is."""
    for control, letter in ESCAPES.items():
        if control in text:
            text = re.sub(f"{control}(?=[a-z])", lambda _, letter=letter: "\\" + letter, text)
    text = SPACED.sub(lambda found: "\\" + ("t" if found.group() == "\t" else "r"), text)
    if "<su" in text:
        text = MARKUP.sub(lambda found: ("^" if found["tag"] == "sup" else "_") + "{" + found["inside"] + "}", text)
    if "\\" in text:
        text = SIGN_IN_TEXT.sub(r"\1", text)
        text = RUN_ON.sub(lambda found: found.group() if found.group()[1:] in KNOWN else
                          f"\\{found['name']} {found['letter']}", text)  # fmt: skip
    text = without_ornaments(text)
    text = BUILDER.sub(r"\1\\{\2\\}\3", CUBE_ROOT.sub(r"\\sqrt[3]{\1}", TIMES_AS_X.sub(r" \\times ", text)))
    text = FRACTION_OF_NOUN.sub(r"\\frac{\1}{\2}", text)
    text = NOUN_IN_BRACKETS.sub(in_text, text)
    text = PLUS_MINUS.sub(r"\1\\pm ", text)
    text = RATIO_IN_WORDS.sub(":", SIGN_IN_WORDS.sub("-", text))
    text = GLUED_WORD.sub(lambda found: f" {found['word'] or found['last']} ", text)
    text = re.sub(r"(?<![\\\s])\\$", "", text.strip())
    return STRAY_POINT.sub("", text)


def in_text(found: re.Match[str]) -> str:
    """A noun that stands in brackets as the text that it is; letters that are none as they stand."""
    noun = found["noun"]
    known = noun.lower() in UNITS or (len(noun) > 2 and noun.islower() and re.search("[aeiou]", noun))
    return f" \\text{{{noun}}}" if known else found.group()


def as_list(text: str) -> str:
    """Circled figures as a list of numbers, where a text is made of nothing else; any other text as it is."""
    if len(text) > 100 or not any(figure in CIRCLED for figure in text):
        return text
    figures = re.sub(r"[\s,，、和]", "", text)
    if figures and all(figure in CIRCLED for figure in figures):
        return ", ".join(CIRCLED[figure] for figure in figures)
    return text


def without_ordinals(text: str) -> str:
    """`15th` as 15."""
    return ORDINAL.sub("", text)
