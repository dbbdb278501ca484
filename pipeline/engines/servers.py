"""Servers that may die, hang or talk nonsense: each request is tried again, elsewhere first, until it is answered.

A server that fails rests before it is asked again, longer each time (0.5 s, 1 s, … up to 30 s, or what its Retry-After
header asks for); meanwhile the others take its work. A request that is given up on is closed, so a late answer is never
read: every request ends in one answer or in one error.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pipeline.core.errors import RunError
from pipeline.core.http import FIRST_REST_S, REFUSED, Client, HTTPFault, rest_after

KEY_VARIABLE = "VLLM_API_KEY"
STRAGGLERS, STRAGGLER_S = 4.0, 30.0
"""How much longer than the first of several servers the others may take."""

Answer = TypeVar("Answer")
Bring = Callable[[Client, str], Awaitable[None]]
"""Gives a server the weights that it is to hold. Raises HTTPFault where it does not hold them afterwards."""


class ServerError(RunError):
    """No server gave an answer that can be used."""


class StaleServer(HTTPFault):
    """A server that holds other weights than it is to."""


class Servers:
    """Spreads requests over `urls`, the least busy first. Use it inside one event loop, as a context manager.

    A server that turns out to hold other weights (`StaleServer`) gets no question before `bring(client, url)` has given
    it the right ones; one request at a time waits for that, and the others are asked elsewhere.
    """

    def __init__(
        self,
        urls: list[str],
        timeout_s: float,
        tries: int,
        bring: Bring | None = None,
        patience_s: float = 0.0,
        check: Callable[[], None] = lambda: None,
    ):
        """`patience_s`: how long a server where nothing listens may take to come back, without counting as a try;
        `check` raises ServerError where none of them will."""
        self._check = check
        self._timeout_s, self._tries, self._bring, self._patience_s = timeout_s, tries, bring, patience_s
        self._asked, self._busy = dict.fromkeys(urls, 0), dict.fromkeys(urls, 0)
        self._rests_until, self._failures = dict.fromkeys(urls, 0.0), dict.fromkeys(urls, 0)
        self._stale: set[str] = set()
        self._catching_up = {url: asyncio.Lock() for url in urls}

    async def __aenter__(self) -> "Servers":
        self.client = await Client(server_key(), self._timeout_s, "engine.server_timeout_s").__aenter__()
        return self

    async def __aexit__(self, *_) -> None:
        await self.client.__aexit__()

    async def ask(self, path: str, body: Callable[[str], dict], read: Callable[[Any], Answer]) -> Answer:
        """What `read` makes of the JSON that a server answers to `body(url)`; it raises HTTPFault for a bad one.

        Raises ServerError naming each server that was asked and what it said last, when every try has failed.
        """
        said: dict[str, str] = {}
        tries, until = 0, time.monotonic() + self._patience_s
        while tries < self._tries:
            self._check()
            url = await self._next()
            self._busy[url] += 1
            try:
                await self._catch_up(url)
                answer = read(await self.client.post(f"{url}{path}", body(url)))
            except HTTPFault as fault:
                if fault.status in REFUSED:
                    raise ServerError(f"{url} refused the request, {fault}") from fault
                if isinstance(fault, StaleServer):
                    self._stale.add(url)
                said[url] = str(fault)
                self._rest(url, fault.rest_s)
                tries += not (fault.unreachable and time.monotonic() < until)
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

    async def bring_all(self) -> dict[str, str]:
        """Brings every server at once; what is wrong with those that could not be brought.

        Once one is there the others have `STRAGGLERS` times as long, and `STRAGGLER_S`: one that hangs must not hold up
        the rest.
        """
        begun = time.monotonic()
        tasks = {url: asyncio.create_task(self._bring(self.client, url)) for url in self._asked}
        waiting, until = set(tasks.values()), None
        try:
            while waiting and (until is None or time.monotonic() < until):
                left_s = None if until is None else until - time.monotonic()
                ended, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if until is None and any(task.exception() is None for task in ended):
                    until = time.monotonic() + STRAGGLERS * (time.monotonic() - begun) + STRAGGLER_S
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        faults = {url: _fault(task) for url, task in tasks.items()}
        return {url: fault for url, fault in faults.items() if fault}

    async def _catch_up(self, url: str) -> None:
        if url not in self._stale:
            return
        async with self._catching_up[url]:
            if url in self._stale:
                await self._bring(self.client, url)
                self._stale.discard(url)

    async def _next(self) -> str:
        """The least busy server that is awake; where none is, the one that wakes first, once it does."""
        now = time.monotonic()

        def order(url: str) -> tuple:
            rest = max(0.0, self._rests_until[url] - now)
            return rest, self._catching_up[url].locked(), self._busy[url], self._asked[url]

        url = min(self._asked, key=order)
        self._asked[url] += 1
        await asyncio.sleep(max(0.0, self._rests_until[url] - now))
        return url

    def _rest(self, url: str, asked_s: float) -> None:
        """Lets the server rest, once for all requests that it failed at the same time."""
        now = time.monotonic()
        if now >= self._rests_until[url]:
            self._failures[url] += 1
            self._rests_until[url] = now + max(asked_s, rest_after(self._failures[url], FIRST_REST_S))


def _fault(task: asyncio.Task) -> str | None:
    """What went wrong with a task that has ended; None for nothing. Raises what is no fault of a server."""
    if task.cancelled():
        return "it took longer than the others"
    error = task.exception()
    if error is not None and not isinstance(error, HTTPFault):
        raise error
    return None if error is None else str(error)


def server_key() -> str | None:
    """The key that servers started with VLLM_API_KEY ask for, None where it is not set."""
    return os.environ.get(KEY_VARIABLE) or None
