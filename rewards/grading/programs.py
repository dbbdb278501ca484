"""The program in a completion."""

import ast
import re
import textwrap

from rewards.grading.answers import MAX_SPEECH
from rewards.response import answer_blocks, segments

FENCE = re.compile(r"^(?P<indent>[ \t]*)(?:<answer>[ \t]*)?(?P<mark>`{3,}+|~{3,}+)(?P<label>[^`\n]*+)$", re.MULTILINE)
PYTHON = re.compile(r"(?:python|py|python3|py3|pypy3?)(?:[\s\d.:{=(,].*)?|\{\.?python.*", re.IGNORECASE)
LEAVES = re.compile(r"(?<![\w.])(?:exit|quit)\s*\(")
LEAVE = "import sys as _sys; exit = quit = _sys.exit\n"


def last_program(text: str) -> str | None:
    """The last closed block that says it is Python, else the last that names no language and can be read as Python; or
    an `<answer>` block that is Python itself. A block that never closes was cut off and is no program.
    """
    _, spoken = segments(text)
    speech = spoken[-1][-5 * MAX_SPEECH :]
    blocks = fenced(speech)
    named = [program for program, said in blocks if said]
    unnamed = [program for program, said in blocks if not said]
    if named:
        return ready(named[-1])
    if unnamed:
        readable = [program for program in unnamed if is_program(program)]
        return ready((readable or unnamed)[-1])
    inside = answer_blocks(speech)
    if not inside or "```" in inside[-1]:
        return None
    return ready(inside[-1].strip()) if is_program(inside[-1].strip()) else None


def is_program(text: str) -> bool:
    """Whether a text is Python that does anything: `42` alone is Python too."""
    try:
        parsed = ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in parsed.body)


def ready(program: str) -> str:
    """The program as it is run: `exit()` and `quit()`, which Python's `site` gives to scripts, leave it here too."""
    if LEAVES.search(program) and "from __future__" not in program:
        return LEAVE + program
    return program


def fenced(speech: str) -> list[tuple[str, bool]]:
    """The closed fenced blocks that are Python or name no language, and whether they say Python; indentation of the
    fence is taken off its lines."""
    blocks: list[tuple[str, bool]] = []
    opened: re.Match[str] | None = None
    for mark in FENCE.finditer(speech.replace("</answer>", "\n</answer>")):
        label = mark["label"].strip()
        if opened is None:
            opened = mark
        elif not label and mark["mark"].startswith(opened["mark"]):
            program = dedented(mark.string[opened.end() + 1 : mark.start()], opened["indent"])
            said = opened["label"].strip()
            if program.strip() and (not said or PYTHON.fullmatch(said)):
                blocks.append((program, bool(said)))
            opened = None
    return blocks


def dedented(program: str, indent: str) -> str:
    """The lines without the white space that stands before their fence."""
    if not indent:
        return program
    return "".join(line.removeprefix(indent) for line in program.splitlines(keepends=True))
