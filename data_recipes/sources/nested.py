"""Columns that hold more than a value: nested ones, named by a dotted path, and conversations."""

from collections.abc import Mapping
from typing import Any

from data_recipes.sources.tables import parsed

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""ShareGPT's and others' names of the roles."""


class Absent(KeyError):
    """What a path names is not there. `there` are the names that stand where it was looked for."""

    def __init__(self, there: list[str]):
        super().__init__(", ".join(there))
        self.there = there


def look_up(row: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or of `reward_model.ground_truth` in a column of mappings (JSON text or not); a number
    picks from a list: `solutions.0`. Null where something on the way is null. Raises Absent."""
    if path in row:
        return row[path]
    found: Any = row
    for step in path.split("."):
        found = parsed(found)
        if found is None:
            return None
        if isinstance(found, Mapping):
            if step not in found:
                raise Absent(list(map(str, found)))
            found = found[step]
        elif isinstance(found, list | tuple) and step.isdecimal():
            found = found[int(step)] if int(step) < len(found) else None
        else:
            raise Absent([])
    return found


def conversation(value: Any) -> tuple[str, str | None] | None:
    """(question, answer or None) of a list of chat messages with one turn; None for anything else than messages.

    What the system says stands before the question. Raises ValueError for a conversation of another shape.
    """
    messages = parsed(value)
    if not isinstance(messages, list | tuple) or not messages or not all(map(_is_message, messages)):
        return None
    turns = [(_role(message), _content(message)) for message in messages]
    asked = [text for role, text in turns if role in ("system", "user") and text.strip()]
    roles = [role for role, _ in turns]
    answer = turns[-1][1] if roles[-1] == "assistant" else None
    expected = [*(["system"] if roles[0] == "system" else []), "user", *(["assistant"] if answer is not None else [])]
    if roles != expected or not asked:
        raise ValueError(
            f"is a conversation of {', '.join(map(str, roles))}. Expected one user message, a system message before it "
            "or none, and an assistant's after it or none"
        )
    return "\n\n".join(asked), answer


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def _role(message: Mapping[str, Any]) -> Any:
    role = message.get("role", message.get("from"))
    return ROLES.get(role, role) if isinstance(role, str) else role


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, list | tuple):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
