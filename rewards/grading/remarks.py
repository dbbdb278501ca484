"""Read remarks behind an answer, and decide whether a text gives a value at all."""

import re

from rewards.grading.marks import DELIMITED, unwrap
from rewards.grading.number_words import read_number

MAX_VALUE = 120
"""Characters of prose that may be a value."""
TWO_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}")
REMARK = re.compile(
    r"(?<!\s)\s*+\((?=[^()\\$0-9=^]{0,200}\)\W*$)(?=[^()]*(?<![\\A-Za-z])[A-Za-z]{3})"
    r"|(?:,|(?<!\s))\s++(?:which|as|so|since|because|where|when|meaning|rounded|thus|hence|making|giving|i\.e\.|that is"
    r"|therefore)\b"
    r"|(?<!\s)\s*+\(\s*(?:because|since|as|which|rounded|approximately|i\.e\.)\b"
    r"|,\s+(?:in|to|and (?:we|this|that|so|it)|the|we|it|this|an?\s+[a-z]{3,}|at|by|for|with|after|given)\b"
    r"|(?<!\s)\s++[-–—]++\s++(?=[A-Za-z]{2,}\s)|(?<!\s)\s*+[—–]\s*+(?=[a-z]{2,})"
    r"|(?<!\s)\s++and\s+(?:we|this|that|so|it|that's)\b|[，,]\s*(?=因为|所以|因此|即)|(?<!\s)\s*+(?=因为)",
    re.IGNORECASE,
)
TAKES_BACK = re.compile(
    r"\b(?:not|never|or|but|maybe|perhaps|possibly|wrong|incorrect|instead|unless|except|rather|nor|neither|also)\b"
    r"|n['’]t\b|[不没非错或]",
    re.IGNORECASE,
)
SAYS = re.compile(
    r"(?<!\s)\s++(?:is|are|equals|was|will be|comes to|is equal to)(?:\s*+:\s++|\s++)"
    r"|(?<=[\u4e00-\u9fff])(?:是|为|等于)"
)


CONTRAST = re.compile(
    r"(?:,\s++(?:and\s++)?not|(?<!\s)\s++and\s++not|(?<!\s)\s++rather\s++than)\s++\$?-?[0-9][0-9,./]{0,20}\$?\W{0,3}$"
)
"""Another number that an answer sets itself against: `88, not 87`."""
OF_ANSWER = re.compile(
    r"(?<!\s)\s++(?:is|was)\s++(?:the|my|our)\s++(?:final\s++|correct\s++)?(?:answer|result|solution)\W{0,3}$"
)


def without_remark(answer: str) -> str:
    """The answer without the clause or the brackets behind it; as it is where that may take the answer back."""
    if found := CONTRAST.search(answer[:2000]) or OF_ANSWER.search(answer[:2000]):
        before = answer[: found.start()]
        return answer if TAKES_BACK.search(before) else unwrap(before)
    found = REMARK.search(answer[:2000])
    if found is None or not found.start() or TAKES_BACK.search(answer[found.start() :]):
        return answer
    return unwrap(answer[: found.start()])


QUANTIFIER = re.compile(
    r"(?:\\text\s*\{\s*,?\s*|[,，]?\s+)for\s+(?:all|any|every|some|each)\b[^{}\\$,;.]{0,60}\}?"
    r"(?:\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])*\s*(?:(?:\\in|\\geq?|>|∈|\\neq?)\s*(?:\\mathbb\s*\{?[A-Z]\}?|[A-Z]\b|[0-9]+)"
    r"(?:[_^](?:\{[^{}]*\}|[^{}\s]))?)?(?![\w(=]))?"
)
CONDITION = re.compile(r"\s*[,，]?\s*(?:\\text\s*\{\s*)?[,，(]?\s*\b(?:where|with)\b(?P<condition>.{1,80})$", re.DOTALL)
OF_WHOLE_NUMBERS = re.compile(r"\b(?:integers?|natural)\b|\\mathbb\s*\{?[NZ]|[∈ℤℕ]")
BEFORE_FORMULA = re.compile(
    r"\W*|.*(?:\b(?:is|are|be|that|get|have|obtain|find|therefore|thus|so|hence|answer|equals|becomes)|[:：，,])\s*",
    re.DOTALL | re.IGNORECASE,
)
BEHIND_FORMULA = re.compile(
    r"\W*(?:(?:is|are)\s+)?(?:(?:the|our|my)\s+)?(?:(?:final|correct)\s+)?(?:answer|solution|result|value)?\W*",
    re.IGNORECASE,
)


def unquantified(answer: str) -> str:
    """The answer without what its letters run over ("for all real x", "where k is an integer")."""
    answer = QUANTIFIER.sub("", answer[:2000])
    found = CONDITION.search(answer)
    if found and found.start() and OF_WHOLE_NUMBERS.search(found["condition"]):
        answer = answer[: found.start()]
    return answer.strip(" ,;")


def lone_formula(answer: str) -> str:
    """The one formula of a sentence that presents it ("We find that $x < 3$."); any other text as it is."""
    found = list(DELIMITED.finditer(answer[:2000]))
    if len(found) != 1:
        return answer
    before, behind = answer[: found[0].start()], answer[found[0].end() :]
    if re.search("[0-9]", before + behind) or TAKES_BACK.search(before + behind):
        return answer
    if not BEFORE_FORMULA.fullmatch(before) or not BEHIND_FORMULA.fullmatch(behind):
        return answer
    return unwrap(next(group for group in found[0].groups() if group))


def last_clause(answer: str) -> str:
    """What a sentence says that something is ("The largest $n$ is 34"); the sentence where it says no such thing."""
    parts = SAYS.split(answer)
    if len(parts) != 2 or not is_value(unwrap(parts[1])) or TAKES_BACK.search(answer) or is_value(parts[0]):
        return answer
    return unwrap(parts[1])


def is_value(text: str) -> bool:
    """Whether a text is a number, a letter or a formula, and no prose."""
    text = without_remark(text)
    if not text or len(text) > MAX_VALUE or not re.search(r"[0-9A-Za-z\\]", text):
        return False
    if read_number(text) is not None or re.match(r"[-+−±$£€(\[{\\]*\.?[0-9]", text):
        return True
    words = TWO_WORDS.findall(re.sub(r"\\[A-Za-z]+(?:\{[A-Za-z ]*\})?", "", text))
    return not words and not re.search(r"[\u4e00-\u9fff]{2}", text)
