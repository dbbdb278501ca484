"""Splitting a completion into its reasoning and its answer part.

Two shapes exist:

- `r1_zero`: `<think> … </think> <answer> … </answer>`, the paper's plain-text template;
- `r1`:      `<think> … </think>` followed by a summary in prose.

A template may end in `<think>`, so that the completion starts inside the reasoning; that is read as the same shape.
Reasoning is never part of the answer, whatever tags the model repeats, nests or leaves open.
"""

import re
from dataclasses import dataclass
from typing import Any

TAG = re.compile(r"</?(?:think|answer)>")
SHAPES = ("r1_zero", "r1")


@dataclass(frozen=True)
class Response:
    """One completion, taken apart."""

    thinking: str | None
    """The chain of thought, without its tags; None where the completion holds none."""
    answer: str
    """What stands after the reasoning, without `<answer>` tags; empty where the reasoning never ends."""
    well_formed: bool
    """Whether the whole completion has one of the two shapes: nothing before, after or twice."""


def text_of(completion: Any) -> str:
    """The text of a completion or prompt, which TRL passes as a string or as a list of chat messages."""
    if isinstance(completion, str):
        return completion
    return "".join(content_of(message) for message in completion)


def whole_text(prompt: Any, completion: Any) -> str:
    """The text of a completion together with a `<think>` that its prompt has already opened."""
    opened = text_of(prompt).rstrip().endswith("<think>")
    return "<think>" + text_of(completion) if opened else text_of(completion)


def content_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def split_response(text: str) -> Response:
    """Take a completion apart; works for both shapes, with or without a `<think>` pre-filled by the prompt.

    Without any think tag the whole text is the answer part. With an unclosed `<think>` there is no answer part.
    """
    thoughts, spoken = segments(text)
    thinking = "\n".join(thoughts).strip() if thoughts else None
    well_formed = any(has_shape(text, shape) or has_shape("<think>" + text, shape) for shape in SHAPES)
    final = spoken[-1]
    return Response(thinking, answer_part(final), well_formed)


def segments(text: str) -> tuple[list[str], list[str]]:
    """Cut a completion into its pieces of reasoning and its pieces of speech, both in order.

    The last piece of speech is what the completion ends with: the answer part, empty if the reasoning never closes.
    A `</think>` makes reasoning of everything since the last boundary, so a nested or repeated tag never turns
    reasoning into speech.
    """
    thoughts: list[str] = []
    spoken: list[str] = []
    thinking, start = False, 0
    for tag in re.finditer(r"</?think>", text):
        if tag.group() == "</think>":
            thoughts.append(text[start : tag.start()])
            thinking, start = False, tag.end()
        elif not thinking:
            piece = text[start : tag.start()]
            if piece.strip():
                spoken.append(piece)
            thinking, start = True, tag.end()
    if thinking:
        thoughts.append(text[start:])
        spoken.append("")
    else:
        spoken.append(text[start:])
    return thoughts, spoken


def answer_part(speech: str) -> str:
    """What a piece of speech answers: its last `<answer>` block, or all of it; nothing if it is cut off in one."""
    if speech.rfind("<answer>") > speech.rfind("</answer>"):
        return ""
    blocks = answer_blocks(speech)
    return (blocks[-1] if blocks else speech.replace("</answer>", "")).strip()


def answer_blocks(speech: str) -> list[str]:
    """The contents of the closed `<answer>` blocks in a piece of speech, in order."""
    blocks = []
    opened = speech.find("<answer>")
    while opened >= 0:
        closed = speech.find("</answer>", opened)
        if closed < 0:
            break
        opened = speech.rfind("<answer>", opened, closed)
        blocks.append(speech[opened + len("<answer>") : closed])
        opened = speech.find("<answer>", closed)
    return blocks


def has_shape(text: str, shape: str) -> bool:
    """Whether `text` has the shape exactly: every tag once and in order, nothing around them, nothing empty."""
    tags = [tag.group() for tag in TAG.finditer(text)]
    text = text.strip()
    if not text.startswith("<think>"):
        return False
    thinking, _, rest = text.removeprefix("<think>").partition("</think>")
    if not thinking.strip() or not rest.strip():
        return False
    if shape == "r1":
        return tags == ["<think>", "</think>"]
    rest = rest.strip()
    return (
        tags == ["<think>", "</think>", "<answer>", "</answer>"]
        and rest.startswith("<answer>")
        and rest.endswith("</answer>")
        and bool(rest.removeprefix("<answer>").removesuffix("</answer>").strip())
    )
