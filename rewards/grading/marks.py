"""What is put around an answer: boxes, math delimiters, bold marks, quotes."""

import re

MAX_BARE_BOX = 80
MAX_BOX = 500
"""Characters of a box in which words are looked for."""
BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{|\\(?:boxed|fbox)[ ]+(?=[^\s{])|\\[{}]|[{}]")
DELIMITED = re.compile(
    r"\$\$([^$]{1,500})\$\$|(?<!\\)\$([^$\n]{1,500})(?<!\\)\$|\\\(([^\n]{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL
)
WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("__", "__"), ("*", "*"),
            ("```", "```"), ("`", "`"), ('"', '"'), ("“", "”"), ("「", "」"))  # fmt: skip
BLANK = re.compile(
    r"(?:\s|\\(?:[,;:! ]|q?quad(?![A-Za-z])|[hv]?phantom\{[^{}]{0,80}\}|hspace\*?\{[^{}]{0,40}\}"
    r"|(?:dots|ldots|cdots|square|Box)(?![A-Za-z])|underline|text(?:bf|rm)?|_)|[{}~?_….])*+"
)
"""What stands in a box that is still to be filled in: blanks, a gap, a question mark."""
CLOSING = ".,;:?!。，；：．！？"
SPACES = ("\\,", "\\;", "\\:", "\\!")
"""LaTeX's blanks, of which a closing mark is a part."""


def boxed(speech: str) -> list[str]:
    """The contents of each `\\boxed{}` that holds something, braces balanced; of nested boxes, the innermost."""
    found: list[str] = []
    opened: list[tuple[int, bool]] = []
    for mark in BOX_OR_BRACE.finditer(speech):
        token = mark.group()
        if token.startswith(("\\boxed", "\\fbox", "\\frameb")) and not token.endswith("{"):
            found.append(unwrap(re.split(r"[\s$]", speech[mark.end() : mark.end() + MAX_BARE_BOX])[0]))
        elif token.endswith("{") and token != "\\{":
            opened.append((mark.end(), len(token) > 1))
        elif token == "}" and opened:
            start, is_box = opened.pop()
            content = speech[start : mark.start()]
            if is_box and "\\boxed" not in content and "\\fbox" not in content:
                found.append(unwrap(content))
    return [answer for answer in found if not BLANK.fullmatch(answer)]


def is_in_box(speech: str, place: int) -> bool:
    """Whether a place of the text lies inside a box."""
    start = max(speech.rfind(command, max(0, place - MAX_BOX), place) for command in ("\\boxed{", "\\fbox{"))
    return start >= 0 and speech.count("{", start, place) > speech.count("}", start, place)


def unboxed(speech: str) -> str:
    """The text without empty boxes."""
    return re.sub(r"\\(?:boxed|fbox)\s*\{\s*\}", " ", speech)


def without_closing(answer: str) -> str:
    """`answer` without the blanks, the punctuation and LaTeX's blanks at its end, and the blanks before it."""
    end = len(answer)
    while end:
        before = end
        while end and answer[end - 1].isspace():
            end -= 1
        last = answer[max(0, end - 2) : end]
        if last in SPACES:
            end -= 2
        elif last != "\\." and not last.endswith("!"):
            while end and answer[end - 1] in CLOSING:
                end -= 1
        if end == before:
            break
    return answer[:end].strip()


def unwrap(answer: str) -> str:
    """`answer` without the white space, closing punctuation, quotes, bold marks and math delimiters around it."""
    while True:
        before = answer
        answer = without_closing(answer)
        if answer.count("**") == 1:  # the other mark is outside the answer
            answer = answer.removeprefix("**").removesuffix("**")
        for left, right in WRAPPERS:
            inside = answer[len(left) : -len(right)]
            if len(answer) > len(left + right) and answer == left + inside + right and right not in inside:
                answer = inside
        if answer == before:
            return answer
