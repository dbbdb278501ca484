"""An OpenAI-compatible server that rewrites or judges: many requests at a time, every answer kept as it comes."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config.data import Asking
from pipeline.core.chat import Chat, ChatReply, ChatRequest
from pipeline.core.console import LOGGER
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.files import append_json_line, hash_json, read_json_lines
from pipeline.core.http import HTTPFault, each
from rewards.response import segments

KEY_VARIABLE = "OPENAI_API_KEY"
SUSPECT_ROUNDS = 4
"""Requests a place of `concurrency` that may fail in a row before the server is put to the proof."""


@dataclass(frozen=True)
class NoReply:
    """What became of a request that the server does not answer, although it answers others."""

    reason: str


Reply = ChatReply | NoReply


def spoken(reply: Reply) -> str | None:
    """What a model says after its reasoning; None where it was cut off, or its reasoning never ends."""
    if isinstance(reply, NoReply) or not reply.whole:
        return None
    return segments(reply.text)[1][-1].strip() or None


def fault_of(reply: Reply) -> str:
    """Why there is no reply."""
    if isinstance(reply, NoReply):
        return "not_answered"
    return "unfinished" if reply.whole else "cut_off"


class Endpoint:
    """One model of one server. Its key is read from OPENAI_API_KEY."""

    def __init__(self, url: str, model: str, asking: Asking):
        self.url, self.model, self.asking = url, model, asking
        self.proof: ChatRequest | None = None
        """A request that the server has answered: when it answers it no more, the server itself has failed."""
        self._answers: dict[str, Reply] = {}

    def reply(self, request: ChatRequest, number: int = 0) -> Reply:
        """The reply to one request, remembered; `number` tells equal requests from one another."""
        self.ask_all([(request, number)])
        return self._answers[self._name(request, number)]

    def ask_all(
        self,
        requests: Sequence[tuple[ChatRequest, int]],
        kept: Path | None = None,
        on_reply: Callable[[], None] = lambda: None,
    ) -> None:
        """Asks what is not known yet, `asking.concurrency` at a time. Later `reply` knows all of it.

        Every answer goes to the file `kept` as it comes, and is read from there when a run is resumed. A request that
        alone fails is a `NoReply`. Raises ConfigError for a refused key, and RunError where the server itself fails.
        """
        if kept is not None and not self._answers and kept.is_file():
            rows = (row for _, row in read_json_lines(kept, torn=True))
            self._answers = {row["request"]: ChatReply(row["text"], row["finish_reason"]) for row in rows}
        named = {self._name(request, number): request for request, number in requests}
        new = {name: request for name, request in named.items() if name not in self._answers}
        if self.proof is None:
            self.proof = next((named[name] for name in named if isinstance(self._answers.get(name), ChatReply)), None)
        if new:
            asyncio.run(_Batch(self, new, kept, on_reply).run())

    def remember(self, name: str, reply: Reply, kept: Path | None) -> None:
        self._answers[name] = reply
        if kept is not None and isinstance(reply, ChatReply):
            append_json_line(kept, {"request": name, **asdict(reply)})

    def _name(self, request: ChatRequest, number: int) -> str:
        return hash_json([self.model, asdict(request), number])


class _Batch:
    """Requests that are asked together, and what their failures say about the server."""

    def __init__(
        self,
        endpoint: Endpoint,
        requests: dict[str, ChatRequest],
        kept: Path | None,
        on_reply: Callable[[], None],
    ):
        self.endpoint, self.requests, self.kept, self.on_reply = endpoint, requests, kept, on_reply
        self.suspects: list[HTTPFault] = []
        """The failures since the last answer."""

    async def run(self) -> None:
        endpoint = self.endpoint
        key = os.environ.get(KEY_VARIABLE)
        async with Chat(endpoint.url, endpoint.model, key, endpoint.asking.timeout_s, "asking.timeout_s") as self.chat:
            await each(self.requests.items(), self._ask, min(endpoint.asking.concurrency, len(self.requests)))
            if self.suspects:
                await self._prove()

    async def _ask(self, named: tuple[str, ChatRequest]) -> None:
        name, request = named
        try:
            reply: Reply = await self.chat.ask(request)
        except HTTPFault as fault:
            self._raise_for_all(fault)
            self.suspects.append(fault)
            reply = NoReply(str(fault))
            if len(self.suspects) >= SUSPECT_ROUNDS * self.endpoint.asking.concurrency:
                await self._prove()
        else:
            self.endpoint.proof, self.suspects = request, []
        self.endpoint.remember(name, reply, self.kept)
        self.on_reply()

    def _raise_for_all(self, fault: HTTPFault) -> None:
        """Raises where no request can be answered."""
        if fault.status in (401, 403):
            raise ConfigError(f"{self.endpoint.url} refused the key in {KEY_VARIABLE}: {fault}") from fault
        if fault.unreachable or fault.status == 404:
            raise self._failed(fault) from fault

    async def _prove(self) -> None:
        """Raises RunError unless the server answers now what it has answered before."""
        suspects, self.suspects = self.suspects, []
        if self.endpoint.proof is None:
            raise self._failed(suspects[-1]) from suspects[-1]
        try:
            await self.chat.ask(self.endpoint.proof)
        except HTTPFault as fault:
            raise self._failed(fault) from fault
        log = logging.getLogger(LOGGER)
        log.warning("%s did not answer %d requests, though it answers others: %s",
                    self.endpoint.url, len(suspects), suspects[-1])  # fmt: skip

    def _failed(self, fault: HTTPFault) -> RunError:
        return RunError(
            f"The server at {self.endpoint.url} (model {self.endpoint.model}) failed: {fault}. "
            "Start or mend it, then run the same command: finished answers and samples are kept."
        )
