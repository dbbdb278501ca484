"""Finding the final answer in what a completion says, and only there.

The answer part is what follows the reasoning (`rewards.response`). In it, the explicit forms count, all of them:
`<answer>` blocks, `\\boxed{}`, and plain phrases ("the answer is …", "Answer: …", "答案是 …", "#### …"). A completion
that gives two explicit answers stands by both, so each must be right. Where nothing is explicit, the last formula
between math delimiters counts, or the whole answer part when it is one short expression without prose.

Every search is linear in the text: the text was written by a model that is paid to break it.
"""

import re

from rewards.grading.number_words import read_number
from rewards.response import answer_blocks, segments

MAX_SPEECH = 20_000
"""Characters read at the end of an answer part; a longer one has its answer at its end, or none."""
MAX_PHRASED = 500
"""Characters of an answer after an answer phrase."""
MAX_BARE = 80
"""Characters of an answer part that may count as an answer by itself."""

PHRASE = re.compile(
    r"(?:\banswers?\b(?:[ \t]+[A-Za-z]+){0,6}?\s*(?:\b(?:is|are|be|equals)\b\s*[:：]?|[:：=])"
    r"(?:\s*(?:therefore|thus|then|hence|indeed|simply|clearly|just|exactly|equal to|given by)\b)?"
    r"|####|答案\s*(?:应该|就)?\s*(?:是|为|等于|[:：])\s*[:：]?)"
    r"(?!\s*(?:not|n't|n’t|不是|unknown)\b)\s*(?:\*\*(?=\s))?\s*",
    re.IGNORECASE,
)
PHRASE_END = re.compile(
    r"\n|[。！？；]|(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bSt)(?<!\bMt)[.!?](?=[\s*\"'”’)]|$)"
    r"|,?\s+(?:because|since|因为)\b",
    re.IGNORECASE,
)
BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\(?:boxed|fbox)[ ]+(?=[^\s{])|\\[{}]|[{}]")
DELIMITED = re.compile(
    r"\$\$([^$]{1,500})\$\$|(?<!\\)\$([^$\n]{1,500})(?<!\\)\$|\\\(([^\n]{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL
)
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[\u4e00-\u9fff]")
WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"), ('"', '"'), ("“", "”"))


def final_answer(text: str) -> str | None:
    """The last final answer that a completion gives, as written; None if its answer part gives none."""
    answers = final_answers(text)
    return answers[-1] if answers else None


def final_answers(text: str) -> list[str]:
    """Every distinct final answer that a completion stands by, the last one last; empty if it ends without one."""
    _, spoken = segments(text)
    answers = answers_in(spoken[-1][-MAX_SPEECH:])
    if not answers:
        return []
    for piece in spoken[:-1]:
        answers = explicit_answers(piece[-MAX_SPEECH:]) + answers
    last_first = dict.fromkeys(reversed(answers))
    return list(reversed(last_first))


def answers_in(speech: str) -> list[str]:
    """The answers in the last piece of speech; none where it is cut off inside an `<answer>` block."""
    if speech.rfind("<answer>") > speech.rfind("</answer>"):
        return []
    return explicit_answers(speech) or implicit_answer(speech)


def explicit_answers(speech: str) -> list[str]:
    """What stands after answer phrases, in boxes, and in `<answer>` blocks, the strongest form last."""
    blocks = answer_blocks(speech)
    outside = speech
    for block in blocks:
        outside = outside.replace(f"<answer>{block}</answer>", "\n。\n")
    answers = phrased(outside) + boxed(outside)
    for block in blocks:
        inner = phrased(block) + boxed(block) or [unwrap(block)]
        answers += [answer for answer in inner if answer]
    return answers


def implicit_answer(speech: str) -> list[str]:
    """The last delimited formula, or the whole piece when it is one short expression without prose."""
    formulas = [next(group for group in match.groups() if group) for match in DELIMITED.finditer(speech[-2000:])]
    if formulas:
        return [unwrap(formulas[-1])]
    bare = unwrap(speech.replace("</answer>", ""))
    if bare and len(bare) <= MAX_BARE and "\n" not in bare and (read_number(bare) or not WORD.search(bare)):
        return [bare] if re.search(r"[0-9A-Za-z]", bare) else []
    return []


def phrased(speech: str) -> list[str]:
    """What follows each answer phrase up to the end of its sentence, boxes left to `boxed`."""
    found = []
    for phrase in PHRASE.finditer(speech):
        sentence = speech[phrase.end() : phrase.end() + MAX_PHRASED]
        end = PHRASE_END.search(sentence)
        answer = unwrap(sentence[: end.start()] if end else sentence)
        if answer and "\\boxed" not in answer and "\\fbox" not in answer:
            found.append(answer)
    return found


def boxed(speech: str) -> list[str]:
    """The contents of each `\\boxed{}`, braces balanced; of nested boxes, the innermost."""
    found: list[str] = []
    opened: list[tuple[int, bool]] = []
    for mark in BOX_OR_BRACE.finditer(speech):
        token = mark.group()
        if token.startswith(("\\boxed", "\\fbox")) and not token.endswith("{"):
            found.append(unwrap(re.split(r"[\s$]", speech[mark.end() : mark.end() + MAX_BARE])[0]))
        elif token.endswith("{") and token != "\\{":
            opened.append((mark.end(), len(token) > 1))
        elif token == "}" and opened:
            start, is_box = opened.pop()
            content = speech[start : mark.start()]
            if is_box and "\\boxed" not in content and "\\fbox" not in content:
                found.append(unwrap(content))
    return [answer for answer in found if answer]


def unwrap(answer: str) -> str:
    """`answer` without the white space, closing punctuation, quotes, bold marks and math delimiters around it."""
    while True:
        before = answer
        answer = answer.strip().rstrip(".,;:?。，；：").strip()
        if answer.count("**") == 1:  # the other mark is outside the answer
            answer = answer.removeprefix("**").removesuffix("**")
        for left, right in WRAPPERS:
            inside = answer[len(left) : -len(right)]
            if len(answer) > len(left + right) and answer == left + inside + right and right not in inside:
                answer = inside
        if answer == before:
            return answer
