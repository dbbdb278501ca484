"""Has a server take over a version of the weights, by vLLM's own protocol, and looks whether it did.

    pause → start_weight_update → update_weights → finish_weight_update → resume → weight_info → a fixed prompt

once it says that it sees the weights. What a server answers to these is not taken for granted. Afterwards it must tell
the version, and the log-probabilities that it gives a fixed prompt must be others than before, where the weights are.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.http import Client, HTTPFault
from pipeline.engines.weight_folders import Version, alone

SHARED_DISK_S = 60
"""How long a shared disk may take to show a server what another machine has written."""
INFO_S = 30.0
"""Longest wait for what a server answers at once."""
FIXED_WORDS = "The quick brown fox counts 0 1 2 3 4 5 6 7 8 9 and adds 12 + 34 = 46 , then stops . "
FIXED_TOKENS = 48
APART = 0.25
"""Mean difference of log-probabilities of two servers that cannot come from rounding: one holds other weights."""
AT_START = "default"
"""The version of a server that has taken over nothing since it was started."""


@dataclass
class HandOver:
    """What servers are to hold, and what is known of those that do.

    Processes that share servers see one `folder`; in it they keep each other from updating one server at a time.
    """

    folder: Path
    prompt: list[int]
    """Token ids of the fixed prompt, at least two."""
    version: Version | None = None
    """None: what servers were started on."""
    _marks: dict[str, tuple[str, list[float]]] = field(default_factory=dict)
    """Of each server the digest of the weights that it had last, and its log-probabilities."""

    @property
    def name(self) -> str:
        return self.version.name if self.version else AT_START

    async def bring(self, client: Client, url: str, model: str) -> None:
        """Has the server hold the version. Raises HTTPFault where it does not, whatever it said."""
        async with alone(self.folder, url):
            if await held(client, url) == self.name:
                return
            if self.version is None:
                raise HTTPFault(f"it holds the version {await held(client, url)}, and is to hold what it started on")
            await self._take_over(client, url)
            await self._look(client, url, model)

    async def _take_over(self, client: Client, url: str) -> None:
        await self._sees(client, url)
        await client.post(f"{url}/pause?mode=abort", {})
        try:
            await self._start(client, url)
            update = {"folder": str(self.version.folder), "weights": self.version.weights}
            await client.post(f"{url}/update_weights", {"update_info": update})
            await client.post(f"{url}/finish_weight_update", {"weight_version": self.version.name})
        finally:
            with contextlib.suppress(HTTPFault):
                await client.post(f"{url}/resume", {})

    async def _sees(self, client: Client, url: str) -> None:
        """Raises HTTPFault where the server does not see the version whole, `SHARED_DISK_S` after it was written."""
        asked = {"method": "fault_of_weights", "args": [str(self.version.folder), str(self.version.weights)]}
        for left in range(SHARED_DISK_S, -1, -1):
            answer = await client.post(f"{url}/collective_rpc", asked)
            told = answer.get("results") if isinstance(answer, dict) else None
            if not told:
                raise HTTPFault("it does not say whether it sees the weights; start it with `make serve`")
            if not (faults := [str(fault) for fault in told if fault]):
                return
            if not left:
                raise HTTPFault(faults[0])
            await asyncio.sleep(1.0)

    async def _start(self, client: Client, url: str) -> None:
        """Begin an update, after ending one that a trainer left behind when it was killed."""
        try:
            await client.post(f"{url}/start_weight_update", {})
        except HTTPFault:
            await client.post(f"{url}/finish_weight_update", {})
            await client.post(f"{url}/start_weight_update", {})

    async def _look(self, client: Client, url: str, model: str) -> None:
        """Raises HTTPFault where the server is not what it was to become, and lets it forget the version's name."""
        try:
            if (told := await held(client, url)) != self.name:
                raise HTTPFault(f"it says that it holds the version {told} after an update to {self.name}")
            marks = await self.marks(client, url, model)
            digest, before = self._marks.get(url, (None, None))
            if digest not in (None, self.version.digest) and before == marks:
                raise HTTPFault(f"it gives a fixed prompt the same log-probabilities after an update to {self.name}")
            for other, (of, theirs) in self._marks.items():
                if other != url and of == self.version.digest and (gap := _gap(theirs, marks)) > APART:
                    raise HTTPFault(f"its log-probabilities are {gap:.2g} from those of {other}, with the same weights")
        except HTTPFault:
            with contextlib.suppress(HTTPFault):
                await client.post(f"{url}/update_weight_version", {"new_version": f"not-{self.name}"})
            raise
        self._marks[url] = self.version.digest, marks

    async def note(self, client: Client, url: str, model: str, version: Version) -> None:
        """Note how the server answers with what it was started on, the weights of `version`."""
        self._marks[url] = version.digest, await self.marks(client, url, model)

    async def marks(self, client: Client, url: str, model: str) -> list[float]:
        """Log-probabilities that the server gives the tokens of the fixed prompt."""
        sampling = {"n": 1, "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
        body = {"model": model, "token_ids": self.prompt, "sampling_params": sampling}
        answer = await client.post(f"{url}/inference/v1/generate", body)
        try:
            each = answer["prompt_logprobs"][1:]
            marks = [
                float(said[str(token)]["logprob"]) for said, token in zip(each, self.prompt[1:], strict=True)
            ]  # fmt: skip
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise HTTPFault(
                f"no log-probabilities of a prompt in its answer ({type(error).__name__}: {error}); start it with "
                "`make serve`"
            ) from None
        return marks


async def held(client: Client, url: str) -> str:
    """The version of its weights that the server tells. Raises HTTPFault where it tells none."""
    return told_version(await client.get(f"{url}/weight_info", INFO_S)) or AT_START


def told_version(answer: Any) -> str | None:
    """The version in an answer of `/weight_info`; None where it is none."""
    version = answer.get("weight_version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) else None


def fixed_prompt(ids: list[int], most: int) -> list[int]:
    """`FIXED_TOKENS` token ids, or `most`, out of those of `FIXED_WORDS`."""
    count = max(2, min(FIXED_TOKENS, most))
    return (ids * (count // len(ids) + 1))[:count]


def _gap(some: list[float], others: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(some, others, strict=True)) / len(some)
