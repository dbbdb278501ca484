"""What is said behind an answer, and whether a text gives a value at all."""

import re

from rewards.grading.marks import unwrap
from rewards.grading.number_words import read_number

MAX_VALUE = 120
"""Characters of prose that may be a value."""
TWO_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}")
REMARK = re.compile(
    r"\s*\((?=[^()]{0,200}[A-Za-z]{2}[^()]{0,200}\)\W*$)"
    r"|,?\s+(?:which|as|so|since|because|where|when|meaning|rounded|thus|hence|making|giving|i\.e\.|that is"
    r"|therefore)\b"
    r"|\s*\(\s*(?:because|since|as|which|rounded|approximately|i\.e\.)\b"
    r"|,\s+(?:in|to|and (?:we|this|that|so|it)|the|we|it|this|an?\s+[a-z]{3,}|at|by|for|with|after|given)\b"
    r"|\s+[-–—]+\s+(?=[A-Za-z]{2,}\s)|\s*[—–]\s*(?=[a-z]{2,})"
    r"|\s+and\s+(?:we|this|that|so|it|that's)\b|[，,]\s*(?=因为|所以|因此|即)|\s*(?=因为)",
    re.IGNORECASE,
)
TAKES_BACK = re.compile(
    r"\b(?:not|never|or|but|maybe|perhaps|possibly|wrong|incorrect|instead|unless|except|rather|nor|neither|also)\b"
    r"|n['’]t\b|[不没非错或]",
    re.IGNORECASE,
)
SAYS = re.compile(r"\s+(?:is|are|equals|was|will be|comes to|is equal to)\s*:?\s+|(?<=[\u4e00-\u9fff])(?:是|为|等于)")


def without_remark(answer: str) -> str:
    """The answer without the clause or the brackets behind it; as it is where that may take the answer back."""
    found = REMARK.search(answer[:2000])
    if found is None or not found.start() or TAKES_BACK.search(answer[found.start() :]):
        return answer
    return unwrap(answer[: found.start()])


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
