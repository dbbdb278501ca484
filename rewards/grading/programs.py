"""The program in a completion."""

import ast
import re
import textwrap

from rewards.grading.answers import MAX_SPEECH
from rewards.response import answer_blocks, segments

FENCE = re.compile(
    r"^(?P<indent>[ \t]*+(?:(?:>[ \t]?)++|(?:[-*+]|\d{1,3}[.)])[ \t]++)?)(?:<answer>[ \t]*)?"
    r"(?P<mark>`{3,}+|~{3,}+)(?P<label>[^`\n]*+)$",
    re.MULTILINE,
)
"""A fence, also in an item of a list or in a quotation."""
PYTHON = re.compile(r"(?:i?python|py|i?python3|py3|pypy3?)(?:[\s\d.:{=(,].*)?|\{\.?python.*", re.IGNORECASE)
REMARK = re.compile(r"[ \t]+\w+[ \t,.'’]+\S")
"""What follows a fence that closes a block and has words behind it."""
SESSION = re.compile(r"\s*(?:>>>|\.\.\.|[$%]) ")
"""How what was typed at a prompt begins."""
METHOD = """
if {name!r} not in globals() and hasattr(globals().get("Solution"), {name!r}):
    def {name}(*arguments):
        return Solution().{name}(*arguments)
"""


def last_program(text: str) -> str | None:
    """The last closed block that says it is Python and is more than comments or a session at a prompt, else the last
    that names no language and can be read as Python; or an `<answer>` block that is Python itself. A block that never
    closes was cut off and is no program.
    """
    _, spoken = segments(text)
    speech = spoken[-1][-5 * MAX_SPEECH :]
    blocks = fenced(speech)
    named = [program for program, said in blocks if said]
    unnamed = [program for program, said in blocks if not said]
    if named:
        return ([program for program in named if not only_shows(program)] or named)[-1]
    if unnamed:
        return ([program for program in unnamed if is_program(program)] or unnamed)[-1]
    inside = answer_blocks(speech)
    if not inside or "```" in inside[-1]:
        return None
    return inside[-1].strip() if is_program(inside[-1].strip()) else None


def is_program(text: str) -> bool:
    """Whether a text is Python that does anything: `42` alone is Python too."""
    try:
        parsed = ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in parsed.body)


def only_shows(text: str) -> bool:
    """Whether a block shows how a program is used and is none: comments alone, or a session at a prompt."""
    lines = [line for line in text.splitlines() if line.strip()]
    return all(line.lstrip().startswith("#") for line in lines) or bool(SESSION.match(lines[0]))


def with_method(program: str, name: str) -> str:
    """The program with a function `name` where it has only a method of its class `Solution` of that name."""
    return program + METHOD.format(name=name) if "class Solution" in program and name.isidentifier() else program


def fenced(speech: str) -> list[tuple[str, bool]]:
    """The closed fenced blocks that are Python or name no language, and whether they say Python; indentation of the
    fence is taken off its lines."""
    blocks: list[tuple[str, bool]] = []
    opened: re.Match[str] | None = None
    for mark in FENCE.finditer(speech.replace("</answer>", "\n</answer>")):
        label = mark["label"].strip()
        if opened is None:
            opened = mark
        elif (not label or REMARK.match(mark["label"])) and mark["mark"].startswith(opened["mark"]):
            program = dedented(mark.string[opened.end() + 1 : mark.start()], opened["indent"])
            said = opened["label"].strip()
            if program.strip() and (not said or PYTHON.fullmatch(said)):
                blocks.append((program, bool(said)))
            opened = None
    return blocks


def dedented(program: str, indent: str) -> str:
    """The lines without what stands before their fence: white space, the marks of a quotation, or as many blanks as the
    mark of a list's item is wide. Where one of the lines has less before it, all stay as they are."""
    margin = indent if ">" in indent else re.sub(r"[^ \t]", " ", indent)
    lines = program.split("\n")
    if not margin or any(line.strip(" \t>") and not line.startswith(margin) for line in lines):
        return program
    return "\n".join(line.removeprefix(margin) if line.startswith(margin) else "" for line in lines)
