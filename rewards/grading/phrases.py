"""Answers in prose: "The answer is 42.", "**Final Answer:** 42", "答案是 42。", "故选 B。"

A phrase ends with its sentence, its line or its displayed formula. One that denies ("the answer cannot be 42"), that
calls its answer wrong, or that says something about an answer ("the answer is clear") gives none.
"""

import re
from collections import deque
from dataclasses import dataclass

from rewards.grading.marks import DELIMITED, is_in_box, unwrap

MAX_PHRASED = 500
"""Characters of an answer after an answer phrase."""
MAX_PHRASES = 40
"""Phrases that are read, the last ones: as many answers could not all be right."""

PHRASE = re.compile(
    r"(?P<label>^[ \t>#*_`✅]*(?:(?:(?:the[ ]|my[ ]|our[ ])?(?:final[ ]|correct[ ])?answers?|(?:最终)?答案|答)"
    r"[ \t*_`]*(?:(?:[:：→⇒]|[-=]>)[ \t*_`]*|\n+(?=[ \t]*\S))|ans[*_`]*[.:：][ \t*_`:：]*"
    r"|(?P<slight>(?:final[ ])?(?:result|solution)|结果|A)[*_`]*[:：][ \t*_`]*))"
    r"|(?P<said>\banswers?\b[*_`]*(?:\s*\([^()\n]{0,40}\)|\s*,[^,\n.]{0,40},)?(?:[ \t]+[A-Za-z']+){0,6}?\s*"
    r"(?:\b(?:is|are|be|equals|was)\b\s*[:：]?|[:：=])|\b(?:correct|right|best)\s+(?:option|choice|response|statement|one)"
    r"s?\s*(?:is|are|[:：])\s*[:：]?)"
    r"|(?P<chinese>(?:答案|正确选项|正确答案|正确的选项)[*_`]*+\s*+(?:(?:应该|应|就)\s*+)?(?:是|为|等于|选|[:：])\s*[:：]?"
    r"|(?:故|应|所以|因此|则)?选(?:项|择)?(?:是|为)?\s*+[:：]?(?=\s*[（(]?[A-Z](?![A-Za-z])))",
    re.IGNORECASE | re.MULTILINE,
)
OPTION = re.compile(
    r"\b(?i:option|choice)\s+[(\[*]*(?P<letter>[A-Z])[)\]*]*\s+is\s+(?:the\s+)?(?:correct|right|answer)\b"
    r"|选项\s*[(（]?(?P<named>[A-Z])[)）]?\s*是?(?:正确|对)的?|(?<![A-Za-z])(?P<before>[A-Z])\s*选?项是?(?:正确|对)"
    r"|^[ \t]*It(?:'s| is)\s+"
    r"(?P<only>\(?[A-Z]\)?)(?=[.\s]*$)",
    re.MULTILINE,
)
ADVERB = re.compile(
    r"\s*(?:一共|总共|共计|共)(?:有|是|为)?"
    r"|\s*(?:therefore|thus|then|hence|indeed|simply|clearly|just|exactly|equal to|given by|approximately|about)\b\s*",
    re.IGNORECASE,
)
PHRASE_END = re.compile(
    r"\n|[。！？；]|(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bSt)(?<!\bMt)(?<!\bMrs)(?<!\bvs)(?<!\bNo)(?<!\ba\.m)(?<!\bp\.m)"
    r"(?<!\b[A-Z]\.[A-Z])[.!?](?=[\s*\"'”’)_`]|$)|(?:,|(?<!\s))\s++(?:because|since|因为)\b",
    re.IGNORECASE,
)
DENIAL_BEFORE = re.compile(
    r"(?:\b(?:wrong|incorrect|false|bad|invalid|impossible|not\s+(?:the|an?|my|our)|another\s+wrong|no)\s+(?:final\s+)?"
    r"|不是|错误的?"
    r"|(?:(?<!no )(?<!any )(?<!not )(?<!n't )(?<!never )(?<!beyond )\bdoubt(?:s|ed|ful)?"
    r"|\b(?:unlikely|disagree|disprove[ds]?|refute[ds]?|suppose|assum(?:e|ed|ing)|whether|unless|if)"
    r"|(?:\b(?:not|never|cannot)|n['’]t)\s+(?:think|believe|sure|true|clear|certain|likely|say|claim|conclude|mean))\s+"
    r"(?:(?:that|if|whether)\s+)?(?:(?:the|my|our|its|an?)\s+)?(?:(?:final|correct|right)\s+)?)$",
    re.IGNORECASE,
)
"""What stands before a phrase that denies its answer, or does not claim it."""
DENIAL_INSIDE = re.compile(r"\b(?:not|never|cannot|neither|hardly|wrong|incorrect)\b|n['’]t\b|不", re.IGNORECASE)
DENIAL_AFTER = re.compile(r"\s*(?:not\b|n't|n’t|never\b|不是|anything but\b|unknown\b|unclear\b)", re.IGNORECASE)
NO_VALUE = re.compile(
    r"(?:as follows|correct|right|wrong|clear|simple|easy|obvious|valid|reasonable|consistent|incorrect|below|above"
    r"|here|found|obtained|given|worth|based|in\b|that\b|to be\b|what\b|called|known|used|ready|confirmed"
    r"|verified|just\b|the same|our\b|always|also\b|expressed|shown|written|stated)\b",
    re.IGNORECASE,
)
REFUSED = re.compile(
    r"(?:不|没有?|别|勿|未|非|排除|误|(?:错误|不对|不正确)的?)(?:应[该当]?|能|可以?|会|该|要|得|再)?\s*$"
)
"""What denies a Chinese phrase behind it."""
ASKED_FOR = re.compile(
    r"\b(?:find|finding|get|verify|check|checking|compute|calculate|determine|reach|see|derive|obtain|give|write|round"
    r"|simplify|express|state|guess|each|every|one|this|that|any|same|another|of|is|for)\s+(?:the\s+|our\s+|my\s+|an?\s+)?"
    r"(?:final\s+|correct\s+)?$",
    re.IGNORECASE,
)
EMPHASIS = re.compile(r"\*\*([^*\n]+)\*\*")
FILLED = re.compile(r"^(?:\s|\*\*(?=\s)|[>*_`•]+(?=\s)|(?<=\n)[ \t]*-(?=\s)|```[a-z]*\n)+")


@dataclass(frozen=True)
class Phrase:
    """What an answer phrase says."""

    text: str
    raw: str
    weak: bool
    """Whether it only says what is being looked for ("to find the answer: …"), or names one of several answers."""


def phrases(speech: str, gold: str = "") -> list[Phrase]:
    """What follows each answer phrase up to the end of its sentence; boxes are left to `marks.boxed`."""
    found = []
    for match in deque(PHRASE.finditer(speech), MAX_PHRASES):
        rest = speech[match.end() : match.end() + MAX_PHRASED]
        if is_in_box(speech, match.start()):
            continue
        if match["said"] and denied(speech, match, rest, gold):
            continue
        if match["chinese"] and REFUSED.search(speech[max(0, match.start() - 8) : match.start()]):
            continue
        below = "\n" if match.group().endswith("\n") else ""  # there a dash begins an item of a list, and is no minus
        raw = content(below + rest, gold)
        text = unwrap(balanced(EMPHASIS.sub(r"\1", raw)))
        if not text or "\\boxed" in raw or "\\fbox" in raw or "<answer>" in raw:
            continue
        is_gold = gold.casefold() in (text.casefold(), raw.strip().casefold())
        if (NO_VALUE.match(text) or PHRASE.search(raw)) and not is_gold:
            continue
        before = speech[max(0, match.start() - 40) : match.start()]
        weak = bool(match["slight"]) or (bool(match["said"]) and bool(ASKED_FOR.search(before.replace("\n", " . "))))
        found.append(Phrase(text, raw, weak))
    found += [Phrase(one[one.lastgroup], one.group(), False) for one in deque(OPTION.finditer(speech), MAX_PHRASES)]
    return found


def balanced(text: str) -> str:
    """The text without a closing mark whose opening one stands before the phrase: `*Answer: 72*`."""
    text = text.strip()
    for mark in ("*", "`", "_"):
        if text.endswith(mark) and text.count(mark) % 2:
            text = text[:-1]
    return text


def denied(speech: str, match: re.Match[str], rest: str, gold: str) -> bool:
    """Whether the phrase says what is not the answer; a gold such as "not guilty" is no denial."""
    before = speech[max(0, match.start() - 60) : match.start()].rpartition("\n")[2]
    if DENIAL_BEFORE.search(before) or DENIAL_INSIDE.search(match.group()):
        return True
    starts_as_gold = bool(gold) and rest.strip().casefold().startswith(gold.casefold())
    return bool(DENIAL_AFTER.match(rest)) and not starts_as_gold


def content(rest: str, gold: str) -> str:
    """The answer at the start of what follows a phrase: up to the end of a displayed formula, a line or a sentence."""
    filled = FILLED.match(rest)
    rest = rest[filled.end() :] if filled else rest
    if adverb := ADVERB.match(rest):
        rest = rest[adverb.end() :]
    if gold and rest.casefold().startswith(gold.casefold()) and re.match(r"[.!?。]*\s*(?:\n|$)", rest[len(gold) :]):
        return rest[: len(gold)]
    if rest.startswith(("\\[", "$$", "\\(\n", "\\boxed", "$\\boxed", "\\(\\boxed")):
        formula = DELIMITED.match(rest)
        if formula:
            return formula.group()
        return rest if rest.startswith("\\boxed") else ""
    end = PHRASE_END.search(rest)
    return rest[: end.start()] if end else rest
