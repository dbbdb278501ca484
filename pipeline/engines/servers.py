"""Servers that may die, hang or talk nonsense: each request is tried again, elsewhere first, until it is answered.

A server that fails rests before it is asked again, longer each time (0.5 s, 1 s, … up to 30 s, or what its Retry-After
header asks for); meanwhile the others take its work. A request that is given up on is closed, so a late answer is never
read: every request ends in one answer or in one error.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from pipeline.core.errors import RunError

FIRST_REST_S, LONGEST_REST_S = 0.5, 30.0
CONNECT_TIMEOUT_S = 10.0
KEY_VARIABLE = "VLLM_API_KEY"
REFUSED = frozenset({400, 413, 422})
"""Statuses that say that the request is wrong, which no other server and no later try would mend."""
SHOWN = 300
"""Characters of an answer that an error message quotes."""

Answer = TypeVar("Answer")


class ServerError(RunError):
    """No server gave an answer that can be used."""


class ServerFault(Exception):
    """What was wrong with one try. `rest_s` is how long the server asks to be left alone."""

    def __init__(self, message: str, rest_s: float = 0.0):
        super().__init__(message)
        self.rest_s = rest_s


class Servers:
    """Spreads requests over `urls`, the least busy first. Use it inside one event loop, as a context manager."""

    def __init__(self, urls: list[str], timeout_s: float, tries: int):
        self._timeout_s, self._tries = timeout_s, tries
        self._asked, self._busy = dict.fromkeys(urls, 0), dict.fromkeys(urls, 0)
        self._rests_until, self._failures = dict.fromkeys(urls, 0.0), dict.fromkeys(urls, 0)

    async def __aenter__(self) -> "Servers":
        self._client = httpx.AsyncClient(
            headers=key_header(),
            timeout=httpx.Timeout(None, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            limits=httpx.Limits(max_connections=None),
        )
        return self

    async def __aexit__(self, *_) -> None:
        await self._client.aclose()

    async def ask(self, path: str, body: Callable[[str], dict], read: Callable[[Any], Answer]) -> Answer:
        """What `read` makes of the JSON that a server answers to `body(url)`; it raises ServerFault for a bad one.

        Raises ServerError naming each server that was asked and what it said last, when every try has failed.
        """
        said: dict[str, str] = {}
        for _ in range(self._tries):
            url = await self._next()
            self._busy[url] += 1
            try:
                answer = read(await self._post(url, path, body(url)))
            except ServerFault as fault:
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

    async def _post(self, url: str, path: str, body: dict) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(f"{url}{path}", json=body)
        except TimeoutError:
            raise ServerFault(f"no answer within {self._timeout_s:g} s (engine.server_timeout_s)") from None
        except httpx.HTTPError as error:
            raise ServerFault(f"{type(error).__name__}: {error or 'the connection was lost'}") from error
        if response.status_code in REFUSED:
            raise ServerError(f"{url} refused the request, status {response.status_code}: {response.text[:SHOWN]}")
        if not response.is_success:
            fault = f"status {response.status_code}: {response.text[:SHOWN]}"
            raise ServerFault(fault, _retry_after(response.headers.get("Retry-After")))
        return read_json(response)

    def _rest(self, url: str, asked_s: float) -> None:
        """Lets the server rest, once for all requests that it failed at the same time."""
        now = time.monotonic()
        if now >= self._rests_until[url]:
            self._failures[url] += 1
            doubled = FIRST_REST_S * 2.0 ** min(self._failures[url] - 1, 20)
            self._rests_until[url] = now + max(asked_s, min(doubled, LONGEST_REST_S))


def read_json(response: httpx.Response) -> Any:
    """Raises ServerFault where the body is not JSON."""
    try:
        return json.loads(response.text)
    except (ValueError, RecursionError):
        raise ServerFault(f"an answer that is not JSON: {response.text[:SHOWN]!r}") from None


def key_header() -> dict[str, str]:
    """The header with the key that servers started with VLLM_API_KEY ask for, none where it is not set."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _retry_after(header: str | None) -> float:
    """Seconds that a server asks to be left alone for, at most the longest rest; dates are not read."""
    try:
        return min(max(float(header), 0.0), LONGEST_REST_S)
    except (TypeError, ValueError):
        return 0.0
