"""vLLM servers that a run's trainers hand weights to: `make serve PROFILE=… SERVERS=2`.

    python -m pipeline.tools.serve --profile qwen2.5-7b --set 'engine.kind=vllm-server engine.servers=8'

They are started on the base of the profile's teacher, or on `--model`, watched, started anew when they die or fall
silent, and end with Ctrl-C. The routes that take over weights ask for no key: let nobody else reach the address.
"""

import argparse
import asyncio
import os
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.engine import ServerSettings
from pipeline.core.arguments import profiled
from pipeline.core.errors import ConfigError, LadderError, RunError
from pipeline.core.ranks import GPUS
from pipeline.engines.keeper import GaveUp, ServerPlan, Watch
from pipeline.engines.server_plans import server_plans
from pipeline.ladder import BASE
from pipeline.runs.checkpoints import checkpoint_of
from pipeline.runs.loading import load_run
from pipeline.runs.runner import resolve_device

EVERYWHERE = ("0.0.0.0", "::")


def serve(plans: list[ServerPlan], settings: ServerSettings, host: str) -> None:
    """Keeps the servers up until Ctrl-C. Raises RunError where one does not come up."""
    folder = Path(tempfile.mkdtemp(prefix="ladder-servers-"))
    print(f"Starting {len(plans)} servers; what they say: {folder}/server-*.log", flush=True)
    try:
        watch = Watch(plans, folder, settings.server_start_s, settings.server_silent_s, _warn)
        asyncio.run(_serve(watch, plans, host))
    except GaveUp as error:
        raise RunError(str(error)) from error


def _warn(fault: str) -> None:
    print(f"warning: {fault}", file=sys.stderr, flush=True)


async def _serve(watch: Watch, plans: list[ServerPlan], host: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, watch.stop.set)
    running = asyncio.create_task(watch.run())
    while not running.done() and len(watch.up) < len(plans):
        await asyncio.wait([running], timeout=0.2)
    if not running.done():
        seen = socket.gethostname() if host in EVERYWHERE else host
        urls = " ".join(f"http://{seen}:{plan.url.rpartition(':')[2]}" for plan in plans)
        print(f'They answer. For make: SERVERS="{urls}". Ctrl-C ends them.', flush=True)
    await running


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make serve", description="Start vLLM servers that take over weights.")
    profiled(parser)
    parser.add_argument("--model", default=BASE.id, help="a stage or a checkpoint folder (default: the base)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="of the first server; the others follow")
    options = parser.parse_args(arguments)
    os.environ.setdefault(GPUS, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    try:
        profile, run = load_run(options.profile, shlex.split(options.set), options.seed, options.run)
        settings = profile.engine
        if not isinstance(settings, ServerSettings) or not settings.servers:
            raise ConfigError("make serve starts as many servers as SERVERS says, such as SERVERS=2.")
        device = resolve_device(profile)
        model = str(checkpoint_of(run, options.model).absolute())
        plans = server_plans(settings, model, device, options.host, options.port, taken=0)
        serve(plans, settings, options.host)
    except LadderError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
