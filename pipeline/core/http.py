"""HTTP to servers that speak OpenAI's protocol: one client, used by rollouts, rewriters, annotators and judges.

A try ends in the JSON of an answer or in an `HTTPFault` that says whether trying again can help. A request that is
given up on is closed, so a late answer is never read.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import httpx

FIRST_REST_S, LONGEST_REST_S = 0.5, 30.0
CONNECT_TIMEOUT_S = 10.0
REFUSED = frozenset({400, 413, 422})
"""Statuses that say that the request is wrong, which no other server and no later try would mend."""
BUSY = frozenset({408, 409, 425, 429})
"""Statuses under 500 that a later try may mend."""
SHOWN = 300
"""Characters of an answer that an error message quotes."""

Item, Answer = TypeVar("Item"), TypeVar("Answer")


class HTTPFault(Exception):
    """What was wrong with one try. `status` is that of the answer, None without a whole one; `rest_s` is how long the
    server asks to be left alone; `unreachable` says that nothing listens there."""

    def __init__(self, message: str, rest_s: float = 0.0, status: int | None = None, unreachable: bool = False):
        super().__init__(message)
        self.rest_s, self.status, self.unreachable = rest_s, status, unreachable

    @property
    def may_pass(self) -> bool:
        """Whether the same server may answer a later try."""
        return self.status is None or self.status in BUSY or self.status >= 500


class Client:
    """Posts JSON. Use it inside one event loop, as a context manager. `timeout_key` is the name of `timeout_s`."""

    def __init__(self, key: str | None, timeout_s: float, timeout_key: str):
        self._key, self._timeout_s, self._timeout_key = key, timeout_s, timeout_key

    async def __aenter__(self) -> "Client":
        import httpx

        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(None, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            limits=httpx.Limits(max_connections=None),
        )
        return self

    async def __aexit__(self, *_) -> None:
        await self._client.aclose()

    async def post(self, url: str, body: dict) -> Any:
        """The JSON that the server answers. Raises HTTPFault for anything else, and for none within `timeout_s`."""
        return await self._answer("POST", url, self._timeout_s, body)

    async def get(self, url: str, timeout_s: float) -> Any:
        """Likewise, without a body and with a time limit of its own."""
        return await self._answer("GET", url, min(timeout_s, self._timeout_s), None)

    async def _answer(self, method: str, url: str, timeout_s: float, body: dict | None) -> Any:
        import httpx

        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(method, url, json=body)
        except TimeoutError:
            of = f" ({self._timeout_key})" if timeout_s == self._timeout_s else ""
            raise HTTPFault(f"no answer within {timeout_s:g} s{of}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            told = f"{type(error).__name__}: {str(error) or 'the connection was lost'}"
            raise HTTPFault(told, unreachable=nobody) from error
        if not response.is_success:
            told = f"status {response.status_code}: {response.text[:SHOWN]}"
            raise HTTPFault(told, _retry_after(response.headers.get("Retry-After")), response.status_code)
        return read_json(response)


def read_json(response: "httpx.Response") -> Any:
    """Raises HTTPFault where the body is not JSON."""
    try:
        return json.loads(response.text)
    except (ValueError, RecursionError):
        raise HTTPFault(f"an answer that is not JSON: {response.text[:SHOWN]!r}") from None


def rest_after(failures: int, first_s: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time."""
    return min(first_s * 2.0 ** min(failures - 1, 20), LONGEST_REST_S)


async def tried(once: Callable[[], Awaitable[Answer]], tries: int) -> Answer:
    """What `once` gives, tried again after a rest while that may help. Raises the last HTTPFault."""
    for failures in itertools.count(1):
        try:
            return await once()
        except HTTPFault as fault:
            if failures >= tries or not fault.may_pass:
                raise
            await asyncio.sleep(max(fault.rest_s, rest_after(failures, FIRST_REST_S)))


async def each(items: Iterable[Item], do: Callable[[Item], Awaitable[None]], at_once: int) -> None:
    """Does it for every item, at most `at_once` at a time. The first error ends the others and is raised."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await do(item)

    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _retry_after(header: str | None) -> float:
    """Seconds that a server asks to be left alone for, at most the longest rest; dates are not read."""
    try:
        return min(max(float(header), 0.0), LONGEST_REST_S)
    except (TypeError, ValueError):
        return 0.0
