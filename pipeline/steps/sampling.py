"""Sampling many answers in shards: an interrupted run goes on after the last finished shard, and several processes
take a shard each."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_recipes.question import Question
from pipeline.core.errors import RunError
from pipeline.core.files import write_durably
from pipeline.core.stopping import finishing, stop_asked
from pipeline.core.watchdog import beat, phase
from pipeline.engines import Completion, Sampling
from pipeline.steps.context import StageContext

SHARDS = "shards"
SHARED_DISK_S = 90.0
"""Seconds that a network file system may take to show a new file to other machines."""


def sample_in_shards(
    ctx: StageContext,
    name: str,
    questions: Sequence[Question],
    prompts: Sequence[str],
    n: int,
    sampling: Sampling,
    shard_questions: int = 256,
    seed: int | None = None,
) -> Iterator[tuple[Question, list[Completion]]]:
    """`n` completions of each question, in order, by the engine that `ctx.serve` opened last.

    Shards of `shard_questions` questions are written to `shards/<name>-<number>.jsonl` in the stage's folder; a resumed
    run reads complete ones instead of sampling again. Each shard has its own seed, derived from `seed` (default: the
    stage's), so that a resumed run draws the same samples as an uninterrupted one. Several processes take one shard
    each; shards are smaller if there would be fewer than processes.
    Raises RunError if another process's shard does not arrive.
    """
    folder = ctx.folder / SHARDS
    folder.mkdir(exist_ok=True)
    sampling = sampling.model_copy(update={"logprobs": False, "seed": ctx.seed if seed is None else seed})
    size, count = shard_questions, ctx.crew.size
    if count > 1:
        size = min(size, -(-len(questions) // count))
        name = f"{name}-by-{size}"  # shards of other sizes hold other questions under the same number
    for first in range(0, len(questions), size * count):
        last = min(first + size * count, len(questions))
        chunks = {
            f"{name}-{start // size:05d}.jsonl": slice(start, min(start + size, last))
            for start in range(first, last, size)
        }
        shards = {file: _read_shard(folder / file, chunk, n, ctx.log) for file, chunk in chunks.items()}
        missing = {file: list(prompts[chunks[file]]) for file, groups in shards.items() if groups is None}
        if missing:
            ctx.together(
                _write_shards, name=name, shards=missing, n=n, sampling=sampling, done=first, total=len(questions)
            )
            shards |= {file: _arrived(folder / file, chunks[file], n, ctx) for file in missing}
            ctx.checkpointed(last, len(questions), f"question of {name}")
        for file, chunk in chunks.items():
            if shards[file] is None:
                raise RunError(
                    f"{folder / file} was sampled and is not here. All processes of a run write into one run folder: "
                    "put it on a disk that every machine shares."
                )
            yield from zip(questions[chunk], shards[file], strict=True)


def _write_shards(
    ctx: StageContext, name: str, shards: dict[str, list[str]], n: int, sampling: Sampling, done: int, total: int
) -> None:
    """Samples this process's share of the shards, each file name -> prompts, with seeds that follow from that of
    `sampling`. `done` of `total` prompts came before."""
    with ctx.progress(f"sampling {name}", total) as bar, finishing("this shard of samples, which is kept"):
        for file, prompts in list(shards.items())[ctx.crew.rank :: ctx.crew.size]:
            if stop_asked():
                return
            seeded = sampling.model_copy(update={"seed": _shard_seed(sampling.seed, file)})
            with phase("generation"):
                groups = ctx.engines.current.generate(
                    prompts, n, seeded, lambda here, _: bar.update(done + here * len(shards))
                )
            _write_shard(ctx.folder / SHARDS / file, groups)


def _arrived(path: Path, chunk: slice, n: int, ctx: StageContext) -> list[list[Completion]] | None:
    """Read a shard that was just written, perhaps by another machine: a shared disk may show it with a delay."""
    patience = time.monotonic() + SHARED_DISK_S
    while (
        (groups := _read_shard(path, chunk, n, ctx.log)) is None and ctx.crew.size > 1 and time.monotonic() < patience
    ):
        beat()
        time.sleep(1.0)
    return groups


def _shard_seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big") >> 1


def _read_shard(path: Path, chunk: slice, n: int, log: logging.Logger) -> list[list[Completion]] | None:
    """The shard's groups; None if it is missing or damaged, and has to be sampled again."""
    if not path.is_file():
        return None
    rows, _, digest = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    if digest != _digest(rows + b"\n"):
        log.warning("%s is damaged: it is sampled again, with the same seed", path)
        return None
    groups = [[Completion(**completion) for completion in json.loads(line)] for line in rows.split(b"\n")]
    if len(groups) != chunk.stop - chunk.start or any(len(group) != n for group in groups):
        log.warning("%s holds other questions than are asked now: it is sampled again", path)
        return None
    return groups


def _write_shard(path: Path, groups: list[list[Completion]]) -> None:
    rows = "".join(json.dumps([_kept(c) for c in group]) + "\n" for group in groups)
    write_durably(path, rows + _digest(rows.encode()).decode() + "\n")


def _kept(completion: Completion) -> dict[str, Any]:
    """All of it that does not name this run's weights."""
    return {name: value for name, value in asdict(completion).items() if name != "spans"}


def _digest(rows: bytes) -> bytes:
    """The last line of a shard."""
    return json.dumps({"sha256": hashlib.sha256(rows).hexdigest()}).encode()
