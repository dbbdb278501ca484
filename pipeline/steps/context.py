"""The input and the result of a stage."""

import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.config.profile import Profile
from pipeline.core.console import Progress
from pipeline.core.crew import Crew
from pipeline.core.files import write_progress
from pipeline.core.manifest import Manifest
from pipeline.engines import Engine
from pipeline.engines.pool import EnginePool
from pipeline.ladder import STAGES, StageDefinition


@dataclass(frozen=True)
class StageInput:
    """A finished stage: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def rows(self) -> Path:
        """The rows that a data stage wrote."""
        return self.folder / "rows.jsonl"


@dataclass(frozen=True)
class StageResult:
    """`outputs` are the files or folders (relative to the stage's folder) that later stages read: they make the
    stage's identity. Everything else in the folder is a record."""

    outputs: list[str]
    metrics: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    scratch: list[str] = field(default_factory=list)
    """Files that only a resumed run needs (trainer checkpoints, shards). Removed; not in the manifest."""


@dataclass(frozen=True)
class StageContext:
    """One run of one stage. `config` is the stage's own section; `folder` is where it writes, already holding what
    an interrupted run of the same configuration left there."""

    stage_id: str
    run: str
    """The name of the run's folder."""
    profile: Profile
    config: Any
    inputs: dict[str, StageInput]
    folder: Path
    device: str
    log: logging.Logger
    progress: Callable[..., Progress]
    """`progress(description, total, quiet=False)`: a bar with the time left."""
    engines: EnginePool
    crew: Crew = field(default_factory=Crew)
    part: str = ""
    """Key of the stage's section that `config` is, where it is only a part of it (`on_policy`)."""

    @property
    def stage(self) -> StageDefinition:
        """The stage's row of the ladder."""
        return STAGES[self.stage_id]

    def start(self, student: str = "") -> Path:
        """The checkpoint that the stage starts from: the teacher's, `student`'s, or that of its one student."""
        before = self.stage.starts_from
        if self.stage.trains == "one student":
            student = self.config.student
        return self.inputs[before].folder / STAGES[before].checkpoint(student)

    @property
    def key(self) -> str:
        """Where `config` stands among the profile's `stages`."""
        return f"{self.stage_id}.{self.part}" if self.part else self.stage_id

    def within(self, part: str, folder: Path) -> "StageContext":
        """For a training that a stage makes beside others: with a part of the stage's section, in a folder of its
        own."""
        return replace(self, part=part, config=getattr(self.config, part), folder=folder)

    @property
    def learns_from(self) -> StageInput:
        """The stage that gave the rows, scorers or count of tokens that this one reads."""
        return self.inputs[self.stage.learns_from]

    @property
    def seed(self) -> int:
        """The stage's own seed, 0..2**31-1, so that stages of one run draw independently."""
        digest = hashlib.sha256(f"{self.profile.seed} {self.stage_id}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    def rng(self, purpose: str) -> random.Random:
        """A random stream of the stage's own for one purpose."""
        return random.Random(f"{self.seed} {purpose}")

    def together(self, function: Callable, **arguments: Any) -> Any:
        """`function(ctx, **arguments)` in every process of the run, each with its own context: `Crew.together`."""
        if not self.part:
            return self.crew.together(self, function, arguments)
        inside = {"part": self.part, "folder": self.folder, "function": function, "arguments": arguments}
        return self.crew.together(self, _within, inside)

    def serve(self, checkpoint: Path, adapter_rank: int | None = None, seed: int | None = None) -> Engine:
        """Opens an engine on a checkpoint in every process, and gives this one's: `EnginePool.serve`.

        `seed` starts its random stream (default: the stage's own).
        """
        seed = self.seed if seed is None else seed
        return self.together(_serve, checkpoint=checkpoint, seed=seed, adapter_rank=adapter_rank)

    def checkpointed(self, done: int, total: int | None, unit: str) -> None:
        """Record for `status` where a resumed run would start."""
        write_progress(self.folder, done, total, unit)


def _within(ctx: StageContext, part: str, folder: Path, function: Callable, arguments: dict[str, Any]) -> Any:
    """In every process of the run: the leader is in the part already."""
    return function(ctx if ctx.part else ctx.within(part, folder), **arguments)


def _serve(ctx: StageContext, checkpoint: Path, seed: int, adapter_rank: int | None) -> Engine:
    return ctx.engines.serve(checkpoint, seed, adapter_rank, ctx.device)
