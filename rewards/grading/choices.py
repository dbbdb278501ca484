"""Which choice of a multiple choice an answer takes: by its letter, by its text, or by both.

An answer takes one choice. One that names another beside it ("(B) or (C)", "B. Paris, or Rome") or takes its own back
("B is incorrect") takes none; the text of a choice may name letters itself ("A. Both B and C").
"""

import re
import string
from collections.abc import Sequence

from rewards.grading.mathematics import compare_plain, prose_key
from rewards.grading.notation import squeeze, tidy
from rewards.grading.verdict import Verdict

MAX_TEXT = 2000
FULL_WIDTH = str.maketrans("（）［］：，．", "()[]:,.")
LETTER = re.compile(
    r"(?:(?:it(?:'s| is)|i (?:choose|pick|select)|(?:the )?(?:correct |right |best |final )?(?:option|choice|answer)"
    r"(?: is)?|选项?|答案选?|故选|应选)\s*+:?\s*+)?"
    r"(?:\(\s*(?P<round>[A-Z])\s*\)|\[\s*(?P<square>[A-Z])\s*\]|\{\s*(?P<brace>[A-Z])\s*\}|(?P<bare>[A-Z])(?![A-Za-z'’]))"
    r"(?P<mark>[.):,、\]]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
AT_END = re.compile(r"(?P<rest>.*\S)\s*[(\[]\s*(?P<letter>[A-Z])\s*[)\]]", re.DOTALL)
OTHER_CHOICE = re.compile(
    r"[(\[{]\s*[A-Z]\s*[)\]}]|(?<![A-Za-z'’])[A-Z]\)|(?<![A-Za-z.'’])(?-i:[A-Z])[.:](?:\s|$)|^\s*[A-Z]\.\s*$"
    r"|\b(?:or|and|nor)\s+(?:option\s+|choice\s+)?[A-Z]\b(?!['’])|[/,&]\s*[A-Z](?![A-Za-z'’])|[或和]",
    re.IGNORECASE,
)
CONTRAST = re.compile(
    r"(?:,\s*+(?:and\s++)?not|(?<!\s)\s++rather\s++than|(?<![\s,]),?\s*+而?不是)\s*+\(?[A-Z]\)?\W{0,3}$"
)
"""Another letter that an answer sets itself against: `B, not A`."""
TAKES_BACK = re.compile(
    r"\b(?:not|isn|never|wrong|incorrect|false|maybe|perhaps|unless|neither|nor|or|but|could|might)\b|[不错]",
    re.IGNORECASE,
)
GOES_ON = re.compile(
    r"\s*(?:$|[-–—:]|because\b|since\b|as\b|is (?:the )?(?:correct|right|answer)|因为|\(|是|选?项)", re.IGNORECASE
)
GAP = r"(?:\s|~|\\[ ,;:!]|\\q?quad(?![A-Za-z]))"
LABELLED = re.compile(
    r"\s*+\$?\s*+(?:\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*+\{\s*+\(\s*+(?P<text>[A-J])\s*+\)(?:~|:|\\ |\s)*+\}"
    rf"(?:{GAP}|:)*+(?P<value>\S.*)?"
    rf"|\(\s*+(?P<round>[A-J])\s*+\)(?:{GAP}++(?P<plain>[0-9A-Za-z$\\.].*))?"
    r"|(?P<bare>[A-J]))\$?\s*+",
    re.DOTALL,
)
JOINED = re.compile(r"\W*+(?:text\s*+\{\s*+)?(?:and|or|nor|not)\b")
LABEL = re.compile(r"^\s*[(\[]?(?P<letter>[A-Z])[)\].:、．]\s*(?=\S)")


def choice_letter(text: str, options: Sequence[str] = ()) -> str | None:
    """The one letter that an answer chooses, with or without the text of the choice beside it."""
    text = tidy(text[:MAX_TEXT].replace("**", "").translate(FULL_WIDTH))
    text = CONTRAST.sub("", text)
    match = LETTER.fullmatch(text)
    if match is None:
        return letter_at_end(text, options)
    letter = (match["round"] or match["square"] or match["brace"] or match["bare"]).upper()
    own = option_text(letter, options)
    rest = match["rest"].strip()
    if re.fullmatch(r"\W*[A-Z]\W*", rest, re.IGNORECASE):
        return None
    if match["mark"].startswith(",") and rest and not starts_with(rest, own):
        return None
    if match["bare"] and not match["mark"] and not (starts_with(rest.lstrip("-–—: "), own) or GOES_ON.match(rest)):
        return None
    if own and starts_with(rest.lstrip("-–—:( "), own):
        rest = rest.lstrip("-–—:( ")[len(own) :]
        return None if re.search(r"\b(?:or|nor)\b|\bnot\b|或", rest) or OTHER_CHOICE.search(rest) else letter
    if OTHER_CHOICE.search(rest) or TAKES_BACK.search(rest):
        return letter if not options and only_words(rest) else None
    return letter


def labelled(text: str) -> tuple[str, str]:
    """The letter of a choice and the value behind it, in an answer to mathematics: `\\textbf{(C)}\\ 12`, `(C) 12`, `C`.

    Either is empty where it does not stand there; both are where another choice stands behind it.
    """
    match = LABELLED.fullmatch(text[:MAX_TEXT])
    if match is None:
        return "", ""
    value = (match["value"] or match["plain"] or "").strip()
    if OTHER_CHOICE.search(value) or JOINED.match(value):
        return "", ""
    return match["text"] or match["round"] or match["bare"], value


def only_words(rest: str) -> bool:
    """Whether what follows a letter, its choices unknown, can be read as the words of its choice alone."""
    return not OTHER_CHOICE.search(rest) and bool(re.match(r"\s*(?:not (?:enough|given|sure)|no[nt]e? of)\b", rest))


def letter_at_end(text: str, options: Sequence[str]) -> str | None:
    """The letter in brackets behind the text of its choice: `Paris (B)`."""
    match = AT_END.fullmatch(text)
    if match is None:
        return None
    own = option_text(match["letter"].upper(), options)
    rest = match["rest"].strip(" -–—:,.")
    return match["letter"].upper() if own and prose_key(rest) == prose_key(own) else None


def option_text(letter: str, options: Sequence[str]) -> str:
    """The text of a choice as it is compared, without a label of its own."""
    place = string.ascii_uppercase.index(letter)
    return plain(options[place]) if place < len(options) else ""


def plain(option: str) -> str:
    return tidy(LABEL.sub("", str(option)).translate(FULL_WIDTH))


def starts_with(text: str, own: str) -> bool:
    """Whether a text begins with a choice's own, whatever their case, and a word ends there."""
    if not own or not text.casefold().startswith(own.casefold()):
        return False
    return not (text[len(own) : len(own) + 1].isalnum() and own[-1].isalnum())


def by_text(answer: str, options: Sequence[str], right: int) -> bool | None:
    """Whether an answer is the text of the right choice and of no other; None where it takes algebra to tell."""
    texts = [plain(option) for option in options]
    keys = [squeeze(prose_key(text)) for text in texts]
    stated = squeeze(prose_key(tidy(answer)))
    matches = [place for place, key in enumerate(keys) if key == stated]
    if matches:
        return matches == [right]
    verdicts = [compare_plain(text, answer) if text else Verdict.WRONG for text in texts]
    equal = [place for place, verdict in enumerate(verdicts) if verdict is Verdict.CORRECT]
    if equal:
        return equal == [right]
    return None if 0 <= right < len(texts) and verdicts[right] is None else False


def names_choices(text: str) -> bool:
    """Whether a text names letters as choices do, in whatever number."""
    text = tidy(text[:MAX_TEXT].replace("**", "").translate(FULL_WIDTH))
    return bool(LETTER.fullmatch(text) or re.fullmatch(r"[A-H]{2,8}", text) or OTHER_CHOICE.search(text))
