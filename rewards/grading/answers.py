"""Finding the final answer in what a completion says, and only there.

The answer part is what follows the reasoning (`rewards.response`). What counts in it as an answer, and what outranks
what, is one table, `GRAMMAR`; `docs/answers.md` explains it. A completion stands by every answer that it marks, so each
must be right; prose beside a marked answer counts only where it plainly gives a value.

Every search is linear in the text: the text was written by a model that is paid to break it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from rewards.grading.marks import DELIMITED, boxed, unboxed, unwrap
from rewards.grading.number_words import read_number
from rewards.grading.phrases import phrases
from rewards.grading.remarks import is_value
from rewards.response import answer_blocks, segments

MAX_SPEECH = 20_000
"""Characters read at the end of an answer part; a longer one has its answer at its end, or none."""
MAX_ANSWERS = 8
"""Different answers; a completion that gives more stands by none of them."""
MAX_BARE = 80
"""Characters of an answer part that may count as an answer by itself."""

HASHES = re.compile(r"^[ \t]*####[ \t]*(?=[-+−$£€\\(]*\.?[0-9])([^\n]{1,500})", re.MULTILINE)
ENVIRONMENT = re.compile(r"\\(begin|end)\{(?:equation|displaymath|gather|align|multline|math)\*?\}")
ALIGNED = re.compile(r"(\\begin\{align\*?\})([^&{}\\]{0,80}&[^&{}]{0,400})(\\end\{align\*?\})")
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[\u4e00-\u9fff]")
FINAL = re.compile(r"\bfinal answer\b(?=[*_` ]*(?::|is\b|\n))", re.IGNORECASE)
BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
NUMBER = re.compile(r"[-−]?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)(?:/[1-9][0-9]*)?%?")
DENIED = re.compile(r"\b(?:not|never|cannot|neither|nor)\b|n['’]t\b|不是|不等于|并非|\\ne(?:q)?\b|≠", re.IGNORECASE)
HEDGED = re.compile(r"^\W*(?:or|maybe|perhaps|或|或者)\W*$", re.IGNORECASE)
SENTENCE = re.compile(r"[.!?。！？\n]")


@dataclass(frozen=True)
class Stated:
    """One answer that a completion stands by."""

    text: str
    """Without the delimiters and the punctuation around it."""
    raw: str
    """As written."""
    kind: str
    """The row of `GRAMMAR` that found it."""


def final_answer(text: str) -> str | None:
    """The last final answer that a completion gives, as written; None if its answer part gives none."""
    answers = final_answers(text)
    return answers[-1] if answers else None


def final_answers(text: str) -> list[str]:
    """Every distinct final answer that a completion stands by, the last one last; empty if it ends without one."""
    last_first = dict.fromkeys(answer.text for answer in reversed(stated_answers(text)))
    return list(reversed(last_first))


def stated_answers(text: str, gold: str = "", last_number: bool = False, choice: bool = False) -> list[Stated]:
    """Every answer that a completion stands by, the last one last.

    `gold` helps to find the end of an answer in prose ("J. R. R. Tolkien."), and never what is one. `choice` reads a
    line that begins with a letter as a choice. With `last_number`, an answer part that marks nothing gives its last
    number.
    """
    _, spoken = segments(text)
    last = displayed(spoken[-1][-MAX_SPEECH:])
    if last.rfind("<answer>") > last.rfind("</answer>"):
        return []
    answers = marked(last, gold) or unmarked(last, choice) or (last_in(last) if last_number else [])
    if not answers:
        return []
    earlier = [one for piece in spoken[:-1] for one in marked(piece[-MAX_SPEECH:], gold)]
    return [one for one in earlier if one.kind != "phrase"] + answers


def displayed(speech: str) -> str:
    """The piece with formulas that stand in an environment of their own between plain display marks."""
    speech = ALIGNED.sub(lambda found: found[1] + found[2].replace("&", "") + found[3], speech)
    return ENVIRONMENT.sub(lambda found: "\\[" if found[1] == "begin" else "\\]", speech)


def marked(speech: str, gold: str = "") -> list[Stated]:
    """The answers that are marked as such: by tags, boxes, hashes, or a phrase."""
    blocks = answer_blocks(speech)
    outside = speech
    for block in blocks:
        outside = outside.replace(f"<answer>{block}</answer>", "\n。\n")
    answers = ranked(concluded(outside), gold)
    for block in blocks:
        inner = ranked(block, gold)
        whole = Stated(unwrap(block), block.strip(), "block")
        inner = [one for one in inner if one.kind not in ("phrase", "weak") or is_value(one.text) or one.text == gold]
        answers += inner or [whole]
    answers = [one for one in answers if one.text or one.raw.strip("*_ `$")]
    kinds = {one.kind for one in answers}
    if kinds - {"phrase", "weak"}:  # prose beside a marked answer counts only where it gives a value
        return [one for one in answers if one.kind != "weak" and (one.kind != "phrase" or is_value(one.text))]
    return [one for one in answers if one.kind != "weak"] if "phrase" in kinds else answers


def concluded(speech: str) -> str:
    """The piece from its last "final answer" on, where that gives a value behind boxes for results on the way."""
    final = max((found.start() for found in FINAL.finditer(speech)), default=-1)
    behind = speech[final:] if final > speech.rfind("\\boxed") > -1 else ""
    if not behind or len(set(boxed(speech))) < 2 or not any(is_value(one.text) for one in in_phrases(behind, "")):
        return speech
    return behind


def ranked(speech: str, gold: str) -> list[Stated]:
    """Prose, hashes and boxes of a piece without answer blocks, weakest first."""
    return [answer for _, _, find in GRAMMAR for answer in find(speech, gold)]


def in_phrases(speech: str, gold: str) -> list[Stated]:
    """Answers in prose; where one of them gives a value, only those that do."""
    found = phrases(speech, gold)
    values = [phrase for phrase in found if is_value(phrase.text)]
    chosen = values or [phrase for phrase in found if not phrase.weak]
    return [Stated(phrase.text, phrase.raw, "weak" if phrase.weak else "phrase") for phrase in chosen]


def after_hashes(speech: str, _gold: str) -> list[Stated]:
    return [Stated(unwrap(found[1]), found[1].strip(), "hashes") for found in HASHES.finditer(speech)
            if "\\boxed" not in found[1]]  # fmt: skip


def in_boxes(speech: str, _gold: str) -> list[Stated]:
    return [Stated(content, content, "box") for content in boxed(speech)]


GRAMMAR: tuple[tuple[str, str, Callable[[str, str], list[Stated]]], ...] = (
    ("phrase", "`The answer is …`, `Answer: …`, `## Answer`, `答案是 …`, `故选 …`", in_phrases),
    ("hashes", "`#### 42` at the start of a line, with a number", after_hashes),
    ("box", "`\\boxed{…}`", in_boxes),
)
"""What marks an answer, weakest first: its name, how it looks, what finds it. `<answer>` blocks stand above all of
them and are read by the same rows. Where nothing is marked, `unmarked` takes the last formula, bold value or line."""


def unmarked(speech: str, choice: bool = False) -> list[Stated]:
    """The last delimited formula or bold value, or the whole piece when it is one short expression without prose."""
    bare = unwrap(re.sub(r"^\s*>\s*(?=\*\*|\$)", "", speech).replace("</answer>", ""))
    if choice and "\n" not in bare and re.match(r"[(\[*]*[A-Za-z][)\]*]*(?:[.:：、)]|$)", bare):
        return [Stated(bare, bare, "line")]
    tail = speech[-2000:]
    found = list(DELIMITED.finditer(tail))
    formulas = [next(group for group in match.groups() if group) for match in found]
    if formulas:
        before = SENTENCE.split(tail[: found[-1].start()])[-1]
        if DENIED.search(before[-80:]):
            return []
        hedged = len(found) > 1 and HEDGED.match(tail[found[-2].end() : found[-1].start()])
        taken = formulas[-2:] if hedged else formulas[-1:]
        return [Stated(unwrap(one), one, "formula") for one in taken if unwrap(one)]
    if is_bare(bare):
        return [Stated(bare, bare, "line")]
    bold = [match for match in BOLD.finditer(tail) if is_value(unwrap(match[1]))]
    if bold and not DENIED.search(SENTENCE.split(tail[: bold[-1].start()])[-1][-80:]):
        return [Stated(unwrap(bold[-1][1]), bold[-1][1], "bold")]
    return []


def is_bare(text: str) -> bool:
    """Whether a whole piece is one short expression."""
    short = bool(text) and len(text) <= MAX_BARE and "\n" not in text
    return short and bool(read_number(text) or not WORD.search(text)) and bool(re.search(r"[0-9A-Za-z]", text))


def last_in(speech: str) -> list[Stated]:
    """The last number of a piece that marks no answer."""
    numbers = NUMBER.findall(unboxed(speech))
    return [Stated(numbers[-1].rstrip(","), numbers[-1], "last_number")] if numbers else []
