"""Servers that may die, hang or talk nonsense: each request is tried again, elsewhere first, until it is answered.

A server that fails rests before it is asked again, longer each time (0.5 s, 1 s, … up to 30 s, or what its Retry-After
header asks for); meanwhile the others take its work. A request that is given up on is closed, so a late answer is never
read: every request ends in one answer or in one error.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.core.errors import RunError
from pipeline.core.http import FIRST_REST_S, REFUSED, Client, HTTPFault, rest_after

KEY_VARIABLE = "VLLM_API_KEY"

Answer = TypeVar("Answer")


class ServerError(RunError):
    """No server gave an answer that can be used."""


class Servers:
    """Spreads requests over `urls`, the least busy first. Use it inside one event loop, as a context manager."""

    def __init__(self, urls: list[str], timeout_s: float, tries: int):
        self._timeout_s, self._tries = timeout_s, tries
        self._asked, self._busy = dict.fromkeys(urls, 0), dict.fromkeys(urls, 0)
        self._rests_until, self._failures = dict.fromkeys(urls, 0.0), dict.fromkeys(urls, 0)

    async def __aenter__(self) -> "Servers":
        self._client = await Client(server_key(), self._timeout_s, "engine.server_timeout_s").__aenter__()
        return self

    async def __aexit__(self, *_) -> None:
        await self._client.__aexit__()

    async def ask(self, path: str, body: Callable[[str], dict], read: Callable[[Any], Answer]) -> Answer:
        """What `read` makes of the JSON that a server answers to `body(url)`; it raises HTTPFault for a bad one.

        Raises ServerError naming each server that was asked and what it said last, when every try has failed.
        """
        said: dict[str, str] = {}
        for _ in range(self._tries):
            url = await self._next()
            self._busy[url] += 1
            try:
                answer = read(await self._client.post(f"{url}{path}", body(url)))
            except HTTPFault as fault:
                if fault.status in REFUSED:
                    raise ServerError(f"{url} refused the request, {fault}") from fault
                said[url] = str(fault)
                self._rest(url, fault.rest_s)
            else:
                self._failures[url] = 0
                return answer
            finally:
                self._busy[url] -= 1
        told = "; ".join(f"{url}: {fault}" for url, fault in said.items())
        raise ServerError(
            f"No server answered a request in {self._tries} tries (engine.server_tries). {told}. "
            "Start or mend them, then run the same command: finished samples are kept."
        )

    async def _next(self) -> str:
        """The least busy server that is awake; where none is, the one that wakes first, once it does."""
        now = time.monotonic()
        url = min(self._asked, key=lambda u: (max(0.0, self._rests_until[u] - now), self._busy[u], self._asked[u]))
        self._asked[url] += 1
        await asyncio.sleep(max(0.0, self._rests_until[url] - now))
        return url

    def _rest(self, url: str, asked_s: float) -> None:
        """Lets the server rest, once for all requests that it failed at the same time."""
        now = time.monotonic()
        if now >= self._rests_until[url]:
            self._failures[url] += 1
            self._rests_until[url] = now + max(asked_s, rest_after(self._failures[url], FIRST_REST_S))


def server_key() -> str | None:
    """The key that servers started with VLLM_API_KEY ask for, None where it is not set."""
    return os.environ.get(KEY_VARIABLE) or None
