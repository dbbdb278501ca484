"""One model behind an OpenAI-compatible chat endpoint."""

from dataclasses import dataclass
from typing import Any

from pipeline.core.http import Client, HTTPFault, tried

TRIES = 6
"""Tries of one request before it counts as not answered."""


@dataclass(frozen=True)
class ChatRequest:
    messages: tuple[tuple[str, str], ...]
    """(role, content), in order."""
    temperature: float
    max_tokens: int | None
    """Longest answer, reasoning included; None leaves it to the server."""


@dataclass(frozen=True)
class ChatReply:
    text: str
    """What was answered. A reasoning parser has taken the reasoning out of it; without one it may still be there."""
    finish_reason: str | None
    """None where the server says nothing of it."""

    @property
    def whole(self) -> bool:
        """Whether the model itself ended its answer."""
        return self.finish_reason in ("stop", None)


class Chat:
    """Asks the model. Use it inside one event loop, as a context manager."""

    def __init__(self, url: str, model: str, key: str | None, timeout_s: float, timeout_key: str, tries: int = TRIES):
        self.url = url.rstrip("/") + "/chat/completions"
        self.model, self.tries = model, tries
        self._client = Client(key, timeout_s, timeout_key)

    async def __aenter__(self) -> "Chat":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error) -> None:
        await self._client.__aexit__(*error)

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The reply. Raises the last HTTPFault where no try gave a whole one."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "temperature": request.temperature,
        }
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens

        async def once() -> ChatReply:
            return read_reply(await self._client.post(self.url, body))

        return await tried(once, self.tries)


def read_reply(answer: Any) -> ChatReply:
    """The reply in the JSON of an answer. Raises HTTPFault where it is no chat completion.

    A reply that is all reasoning, as a parser gives it in `reasoning_content` (`reasoning` in newer servers), says
    nothing: its text is empty.
    """
    try:
        choice = answer["choices"][0]
        text, finish = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise HTTPFault(f"an answer that is no chat completion ({type(error).__name__}: {error})") from None
    if not isinstance(text, str | None) or not isinstance(finish, str | None):
        raise HTTPFault(f"a chat completion with content {text!r:.80} and finish_reason {finish!r:.40}")
    return ChatReply(text or "", finish)
