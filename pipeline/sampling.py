"""Sampling many answers in shards: an interrupted run goes on after the last finished shard."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from data_recipes.rows import Question
from pipeline.context import StageContext
from pipeline.manifest import write_durably
from pipeline.rollouts import Completion, Engine, Sampling
from pipeline.watchdog import phase

SHARDS = "shards"


def sample_in_shards(
    ctx: StageContext,
    name: str,
    engine: Engine,
    questions: Sequence[Question],
    prompts: Sequence[str],
    n: int,
    sampling: Sampling,
    shard_questions: int = 256,
) -> Iterator[tuple[Question, list[Completion]]]:
    """`n` completions of each question, in order.

    Shards of `shard_questions` questions are written to `shards/<name>-<number>.jsonl` under the stage's folder and
    read back instead of sampled where they are there and whole. Each shard has a seed of its own, so that a resumed
    run draws what an undisturbed one would have drawn.
    """
    folder = ctx.folder / SHARDS
    folder.mkdir(exist_ok=True)
    sampling = sampling.model_copy(update={"logprobs": False})
    with ctx.progress(f"sampling {name}", len(questions)) as bar:
        for start in range(0, len(questions), shard_questions):
            chunk = slice(start, min(start + shard_questions, len(questions)))
            path = folder / f"{name}-{start // shard_questions:05d}.jsonl"
            groups = _read_shard(path, chunk.stop - start, n, ctx.log)
            if groups is None:
                seeded = sampling.model_copy(update={"seed": _shard_seed(ctx.seed, path.name)})
                with phase("generation"):
                    groups = engine.generate(
                        list(prompts[chunk]), n, seeded, lambda done, _, start=start: bar.update(start + done)
                    )
                _write_shard(path, groups)
                ctx.checkpointed(chunk.stop, len(questions), f"question of {name}")
            bar.update(chunk.stop)
            yield from zip(questions[chunk], groups, strict=True)


def _shard_seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big") >> 1


def _read_shard(path: Path, questions: int, n: int, log: logging.Logger) -> list[list[Completion]] | None:
    """The shard's groups, None where it was not written, or is not what was written: then it is sampled again."""
    if not path.is_file():
        return None
    rows, _, digest = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    if digest != _digest(rows + b"\n"):
        log.warning("%s is damaged: it is sampled again, with the same seed", path)
        return None
    groups = [[Completion(**completion) for completion in json.loads(line)] for line in rows.splitlines()]
    if len(groups) != questions or any(len(group) != n for group in groups):
        log.warning("%s holds other questions than are asked now: it is sampled again", path)
        return None
    return groups


def _write_shard(path: Path, groups: list[list[Completion]]) -> None:
    rows = "".join(json.dumps([asdict(c) for c in group]) + "\n" for group in groups)
    write_durably(path, rows + _digest(rows.encode()).decode() + "\n")


def _digest(rows: bytes) -> bytes:
    """The last line of a shard."""
    return json.dumps({"sha256": hashlib.sha256(rows).hexdigest()}).encode()
