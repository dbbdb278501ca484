"""Starts vLLM servers, watches them, starts those anew that die or fall silent, and ends them with the run.

The keeper is a process of its own, `python -m pipeline.engines.keeper`. When the process that started it is gone,
however it ended, it ends its servers and itself; when the keeper is gone, Linux tells each server to end. A server and
what it has started are one group of processes, and end together.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config.engine import ServerSettings
from pipeline.core.console import LOGGER
from pipeline.core.files import write_durably
from pipeline.core.http import Client, HTTPFault
from pipeline.core.watchdog import beat
from pipeline.engines.servers import ServerError, server_key
from pipeline.engines.starting import Start, group_cpu_s

STATE = "servers.json"
TICK_S = 0.5
PROBE_S = 2.0
"""Between two looks at a server."""
GRACE_S = 10.0
"""How long a server that is told to end may take."""
MOST_FAILED_STARTS = 3
"""A server that so often in a row ends before it answers will not come up: the keeper gives up."""
END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""


@dataclass(frozen=True)
class ServerPlan:
    """How one server is started. `environment` is added to the keeper's own."""

    url: str
    command: list[str]
    environment: dict[str, str]
    weights: int = 0
    """Bytes that it loads."""


class Keeper:
    """The keeper's process, as the one sees it that has started it. Made, all servers answer."""

    def __init__(self, plans: list[ServerPlan], settings: ServerSettings):
        """Raises ServerError where one of them does not come up, with the end of what it said. Each start that fails is
        logged at once."""
        self._told = 0
        self.urls = [plan.url for plan in plans]
        self.folder = Path(tempfile.mkdtemp(prefix="ladder-servers-"))
        (self.folder / "plan.json").write_text(
            json.dumps(
                {
                    "plans": [asdict(plan) for plan in plans],
                    "start_s": settings.server_start_s,
                    "silent_s": settings.server_silent_s,
                }
            )
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.engines.keeper", str(self.folder), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, env=_environment(),
        )  # fmt: skip
        try:
            while len(_state(self.folder).get("up", [])) < len(plans):
                self.check()
                beat()
                time.sleep(TICK_S)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Logs the starts that have failed since. Raises ServerError where the keeper has given up or is gone."""
        for fault in _state(self.folder).get("faults", [])[self._told :]:
            logging.getLogger(LOGGER).warning("%s", fault)
            self._told += 1
        if self._process.poll() is not None:
            why = _state(self.folder).get("failed", f"it ended with {self._process.returncode}")
            raise ServerError(f"the vLLM servers that this run has started are gone: {why}")

    def close(self) -> None:
        """Ends the servers, and waits for it."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """This process's, without what an engine inside it has set for itself."""
    ours = {"VLLM_ENABLE_V1_MULTIPROCESSING", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"}
    return {name: value for name, value in os.environ.items() if name not in ours | {"MASTER_PORT"}}


def _state(folder: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / STATE).read_text())
    return {}


# ---- The keeper's own process ---------------------------------------------------------------------------------------


class GaveUp(Exception):
    """A server will not come up."""


class _Kept:
    """One server."""

    def __init__(self, plan: ServerPlan, log: Path):
        self.plan, self.log, self.process, self.starts = plan, log, None, 0

    def start(self) -> None:
        self.starts += 1
        with open(self.log, "ab") as said:
            self.process = subprocess.Popen(
                self.plan.command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                env=os.environ | self.plan.environment, preexec_fn=_end_with_parent,
            )  # fmt: skip

    async def end(self, kindly: bool) -> None:
        """Ends it with all that it has started."""
        group = self.process.pid
        if kindly and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
            until = time.monotonic() + GRACE_S
            while self.process.poll() is None and time.monotonic() < until:
                await asyncio.sleep(0.1)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self.process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGTERM)


class Watch:
    """Keeps the servers of `plans` up until `stop` is set. Raises GaveUp."""

    def __init__(
        self,
        plans: list[ServerPlan],
        folder: Path,
        start_s: float,
        silent_s: float,
        say: Callable[[str], None] = lambda fault: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`say` is called with each start that fails, when it does; `clock` is what starts are timed by."""
        self.servers = [_Kept(plan, folder / f"server-{number}.log") for number, plan in enumerate(plans)]
        self.folder, self.start_s, self.silent_s = folder, start_s, silent_s
        self.say, self.clock = say, clock
        self.stop = asyncio.Event()
        self.faults: list[str] = []
        """Starts that have failed."""
        self.up: set[str] = set()
        """Addresses of those that answer."""

    async def run(self) -> None:
        tasks = [asyncio.create_task(self._keep(server)) for server in self.servers]
        stopped = asyncio.create_task(self.stop.wait())
        try:
            ended, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        except GaveUp as fault:
            self._tell(failed=str(fault))
            raise
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            await asyncio.gather(*(server.end(kindly=True) for server in self.servers if server.process))

    async def _keep(self, server: _Kept) -> None:
        failed = 0
        async with Client(server_key(), self.start_s, "engine.server_start_s") as client:
            while True:
                server.start()
                why = await self._start_fault(server, client)
                if why is None:
                    failed = 0
                    self.up.add(server.plan.url)
                    self._tell()
                    await self._until_gone(server, client)
                    self.up.discard(server.plan.url)
                    self._tell()
                else:
                    failed += 1
                    last = f"{why}. It said last:\n{_tail(server.log)}"
                    self.faults.append(
                        f"{server.plan.url} did not come up, try {failed} of {MOST_FAILED_STARTS}: {last}"
                    )
                    self.say(self.faults[-1])
                    self._tell()
                await server.end(kindly=False)
                if failed == MOST_FAILED_STARTS:
                    raise GaveUp(f"{server.plan.url} did not come up in {failed} tries, the last time because {last}")

    async def _start_fault(self, server: _Kept, client: Client) -> str | None:
        """None once it answers; else why it will not: it has ended, or is waited for no longer."""
        start = Start(self.start_s, server.plan.weights, self.clock())
        looking = asyncio.create_task(_looks_well(client, server.plan.url, self.start_s))
        try:
            while True:
                await asyncio.wait([looking], timeout=TICK_S)
                if looking.done() and looking.result():
                    return None
                if (ended := server.process.poll()) is not None:
                    return f"it ended with {ended}"
                said = server.log.stat().st_size
                if why := start.given_up(self.clock(), said, group_cpu_s(server.process.pid)):
                    return why
                if looking.done():
                    await asyncio.sleep(TICK_S)
                    looking = asyncio.create_task(_looks_well(client, server.plan.url, self.start_s))
        finally:
            looking.cancel()

    async def _until_gone(self, server: _Kept, client: Client) -> None:
        """Returns once it has ended, or has answered nothing for `silent_s` in which it was asked.

        What counts is time that passes for the keeper, too: a machine that stood still makes no server silent.
        """
        silent_s = 0.0
        while server.process.poll() is None and silent_s < self.silent_s:
            looking = asyncio.create_task(_looks_well(client, server.plan.url, self.start_s))
            while not looking.done() and server.process.poll() is None and silent_s < self.silent_s:
                await asyncio.wait([looking], timeout=TICK_S)
                silent_s += TICK_S
            if looking.done() and looking.result():
                silent_s = 0.0
            looking.cancel()
            await self._pause(server)

    async def _pause(self, server: _Kept) -> None:
        until = time.monotonic() + PROBE_S
        while server.process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(TICK_S)

    def _tell(self, **more: str) -> None:
        servers = [{"url": s.plan.url, "pid": s.process.pid, "starts": s.starts} for s in self.servers if s.process]
        write_durably(
            self.folder / STATE, json.dumps({"up": sorted(self.up), "servers": servers, "faults": self.faults, **more})
        )


async def _looks_well(client: Client, url: str, timeout_s: float) -> bool:
    """Whether the process that computes answers, not only the one that speaks HTTP."""
    try:
        await client.get(f"{url}/weight_info", timeout_s)
    except HTTPFault:
        return False
    return True


def _tail(log: Path, most: int = 2000) -> str:
    with contextlib.suppress(OSError):
        return log.read_bytes()[-most:].decode(errors="replace").strip()
    return "nothing"


async def _main(folder: Path, parent: int) -> int:
    told = json.loads((folder / "plan.json").read_text())
    watch = Watch([ServerPlan(**plan) for plan in told["plans"]], folder, told["start_s"], told["silent_s"])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, watch.stop.set)

    async def with_parent() -> None:
        while os.getppid() == parent:
            await asyncio.sleep(TICK_S)
        watch.stop.set()

    following = asyncio.create_task(with_parent())
    try:
        await watch.run()
    except GaveUp:
        return 1
    finally:
        following.cancel()
        if os.getppid() != parent:  # nobody else is left to remove it
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]))))
