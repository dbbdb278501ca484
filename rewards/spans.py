"""Remove code, formulas and other spans from a text in linear time.

A regular expression for text between two marks rescans the rest of the text for every opening mark that is never
closed. Here the closing marks are found once.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """A span from an opening mark to the next closing one. Where the marks have a group, it must be the same text."""

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    longest: int
    """Characters between the marks at most, of which there is `shortest` at least."""
    shortest: int = 0
    one_line: bool = False
    open_end: bool = False
    """Whether the end of the text closes the span too."""


def without(text: str, kind: Between) -> str:
    """The text with a blank in the place of every span of the kind."""
    closings: dict[str, tuple[list[int], list[int]]] = {}
    for mark in kind.closing.finditer(text):
        starts, ends = closings.setdefault(_name(mark), ([], []))
        starts.append(mark.start())
        ends.append(mark.end())
    lines = [mark.start() for mark in re.finditer("\n", text)] if kind.one_line else []
    kept, done, place = [], 0, 0
    while (opened := kind.opening.search(text, place)) is not None:
        first = opened.end() + kind.shortest
        starts, ends = closings.get(_name(opened), ([], []))
        at = bisect_left(starts, first)
        inner, end = (starts[at], ends[at]) if at < len(starts) else (len(text), len(text) if kind.open_end else None)
        line = bisect_left(lines, opened.end())
        crosses = line < len(lines) and lines[line] < inner
        if end is None or inner - opened.end() > kind.longest or crosses:
            place = opened.start() + 1
            continue
        kept += [text[done : opened.start()], " "]
        done = place = end
    return "".join(kept) + text[done:] if kept else text


def _name(mark: re.Match[str]) -> str:
    return mark[1] if mark.re.groups else ""
