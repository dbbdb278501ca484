r"""What a typeset answer carries that says nothing of its value: colours, sizes, an equation's number, check marks,
"therefore", words that announce it; and a base or a modulus that is written in words.

Each search is linear in the text.
"""

import re

from rewards.grading.remarks import TAKES_BACK

INSIDE = re.compile(
    r"\\(?:color|textcolor|colorbox)\s*+(?:\[[A-Za-z]{1,10}\]\s*+)?\{[^{}]{0,40}\}"
    r"|\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z])"
    r"|\\(?:tag\*?|label|[hv]?phantom)\s*+\{[^{}]{0,80}\}|\\(?:nonumber|notag)(?![A-Za-z])"
    r"|\\(?:underline|uline)(?=\s*\{)"
)
BEFORE = re.compile(
    r"(?:\s|[∴⇒⟹→]|\\(?:therefore|implies|Rightarrow|Longrightarrow|rightarrow|iff|to)(?![A-Za-z]))*+(?=\S)"
)
BEHIND = (
    *("\\checkmark", "\\blacksquare", "\\qedsymbol", "\\qed", "\\square", "\\Box", "✓", "✔", "✅", "■", "□", "∎"),
    *("\\quad", "\\qquad", "\\ ", "\\,", "\\;", "\\:"),
)
IN_TEXT = r"\\(?:text|textbf|textrm|textnormal|mathrm|mathbf|mbox)\s*+\{\s*+"
ANNOUNCED = re.compile(
    rf"\s*+(?:{IN_TEXT}(?P<text>[A-Za-z][A-Za-z' -]{{2,60}}?)\s*(?::\s*\}}|\}}\s*:|\s(?:is|are|equals)\s*:?\s*\}})"
    r"|(?P<bare>[A-Z][a-z]{2,20}(?: [a-z]{2,20}){0,3})\s*:)(?:\s|\\[ ,;])*+(?!\\text|\\mathrm|[A-Za-z]{2})(?=\S)"
)
"""Words before a value that only name it: `\\text{Total: } 10`, `\\text{The answer is } 4`."""
ALL_TEXT = re.compile(rf"\s*+{IN_TEXT}(?P<inside>[-+−$£€]?\.?[0-9][^{{}}]*)\}}\s*+")
UNIT_POWER = re.compile(
    r"(?P<above>[A-Za-z]{1,3})(?:\\[,;: ]|\s|\\cdot(?![A-Za-z])|·)+(?P<below>[A-Za-z]{1,3})"
    r"\s*\^\s*\{?\s*[-−](?P<power>[123])\s*\}?(?=\s*\})"
)
"""Inside a text command: `m\\,s^{-1}`."""
BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "twelve": "12", "sixteen": "16", "binary": "2", "decimal": "10",
}  # fmt: skip
"""Bases of numbers in words."""
BASE_IN_WORDS = re.compile(
    rf"\s*+(?P<digits>[0-9A-F]{{1,100}})\s*+(?:{IN_TEXT})?\(?\s*+(?:in\s++)?base[\s-]*+"
    r"(?P<base>[0-9]{1,2}|[a-z]{3,7})\s*+\)?\s*+\}?\s*+\)?\s*+",
    re.IGNORECASE,
)
RESIDUE = re.compile(
    r"(?P<residue>[0-9]{1,30})\s*+(?:\\pmod\s*+(?:\{\s*+(?P<braced>[0-9]{1,30})\s*+\}|(?P<digit>[0-9]))"
    r"|\(\s*+\\?b?mod\s*+\{?(?P<round>[0-9]{1,30})\}?\s*+\)|\\bmod\s*+\{?(?P<plain>[0-9]{1,30})\}?)"
)


def without_ornaments(text: str) -> str:
    """The text without what says nothing; words that announce a value become its name (`\\text{Total} = 10`)."""
    text = INSIDE.sub("", text) if "\\" in text else text
    bare = shorn(text[BEFORE.match(text).end() :] if text.strip() else text)
    text = bare or text
    if found := ALL_TEXT.fullmatch(text):
        text = found["inside"]
    if (found := ANNOUNCED.match(text)) and not TAKES_BACK.search(found.group()):
        text = f"\\text{{{found['text'] or found['bare']}}} = {text[found.end() :]}"
    if (found := BASE_IN_WORDS.fullmatch(text)) and (found["base"].isdigit() or found["base"].lower() in BASES):
        text = f"{found['digits']}_{{{found['base'].lower()}}}"
    if "{" in text:
        text = UNIT_POWER.sub(as_division, text)
    return text


def shorn(text: str) -> str:
    """The text without the marks and blanks at its end."""
    while True:
        before = text
        text = text.rstrip()
        for mark in BEHIND:
            if text.endswith(mark):
                text = text[: -len(mark)]
        if text == before:
            return text


def as_division(found: re.Match[str]) -> str:
    power = f"^{found['power']}" if found["power"] != "1" else ""
    return f"{found['above']}/{found['below']}{power}"


def without_modulus(gold: str, answer: str) -> tuple[str, str]:
    """The two, a residue without its modulus where one side alone writes it (`17 \\pmod{20}` beside 17)."""
    ours, theirs = reduced(gold), reduced(answer)
    if (ours is None) == (theirs is None):
        return gold, answer
    return ours or gold, theirs or answer


def reduced(text: str) -> str | None:
    """The residue of `17 \\pmod{20}`; None for any other text, and for one that is not below its modulus."""
    found = RESIDUE.fullmatch(text.strip())
    if found is None:
        return None
    modulus = int(found["braced"] or found["digit"] or found["round"] or found["plain"])
    return found["residue"] if int(found["residue"]) < modulus else None
