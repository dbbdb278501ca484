"""Call a reward that was written for TRL with texts, or with chat messages as TRL passes for chats.

The profile decides which (`completions: text` or `messages`), else the annotation of the parameter `completions`. With
neither, texts are tried first, then messages if the reward fails as it would by indexing a text like a message.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal

from rewards.contract import awaited
from rewards.response import text_of

Shape = Literal["text", "messages"]
MISTAKEN = (TypeError, AttributeError, KeyError, IndexError)
"""Raised by a text that is used as a list of messages: `completion[0]["content"]`, `message.get("content")`."""


class ShapedReward:
    """A user's reward, called with texts; it gets texts or messages, whichever it expects."""

    def __init__(self, reward: Callable[..., Any], shape: Literal["auto", "text", "messages"] = "auto"):
        self.reward = reward
        self.shape: Shape | None = declared_shape(reward) if shape == "auto" else shape
        """None while it is not known."""

    def __call__(self, inputs: dict[str, Any]) -> Any:
        """What the reward gives for the batch `inputs`, its keyword arguments, with texts as completions."""
        inputs = with_solution(inputs)
        if self.shape is not None:
            return self._call(inputs, self.shape)
        try:
            scores = self._call(inputs, "text")
        except MISTAKEN as error:
            try:
                scores = self._call(inputs, "messages")
            except Exception:
                raise error from None
            self.shape = "messages"
            return scores
        if any(inputs["completions"]):
            self.shape = "text"
        return scores

    def _call(self, inputs: dict[str, Any], shape: Shape) -> Any:
        return awaited(self.reward(**(as_messages(inputs) if shape == "messages" else inputs)))


def declared_shape(reward: Callable[..., Any]) -> Shape | None:
    """What the annotation of `completions` says: `list[str]`, or lists of messages; None where it says neither."""
    target = getattr(reward, "func", reward)
    if not inspect.isroutine(target):
        target = type(target).__call__
    annotation = inspect.signature(target).parameters.get("completions")
    text = "" if annotation is None else inspect.formatannotation(annotation.annotation).replace(" ", "").lower()
    if "dict" in text or "message" in text or "list[list[" in text:
        return "messages"
    return "text" if "[str]" in text else None


def as_messages(inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch as TRL gives it for chats: a list of one assistant message as completion, of one user message as
    prompt, which says the row's question."""
    questions = inputs.get("question") or [None] * len(inputs["prompts"])
    prompts = [
        [{"role": "user", "content": question or text_of(prompt)}] if isinstance(prompt, str) else prompt
        for prompt, question in zip(inputs["prompts"], questions, strict=True)
    ]
    completions = [
        [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
        for completion in inputs["completions"]
    ]
    return {**inputs, "prompts": prompts, "completions": completions}


def with_solution(inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch with `solution`, TRL's name for it, beside `answer`; a column of that name keeps its own values."""
    if "answer" not in inputs:
        return inputs
    own = inputs.get("solution") or [None] * len(inputs["answer"])
    solutions = [
        answer if solution is None else solution for solution, answer in zip(own, inputs["answer"], strict=True)
    ]
    return {**inputs, "solution": solutions}
