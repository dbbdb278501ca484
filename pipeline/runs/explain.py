"""What made a checkpoint or any other output: data, code, configuration, versions and seeds, back to the base model.

    make explain RUN=pocket STAGE=distill/students/qwen

Everything is read from the manifests. Where a stage was made again since, the one that was really read is looked for
among the run's replaced stages, by its identity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import ConfigError, RunError
from pipeline.core.files import below
from pipeline.core.manifest import Manifest
from pipeline.core.versions import commit_in_words
from pipeline.ladder import STAGES, find_stage
from pipeline.runs.folder import RunFolder

SHOWN_FILES = 20


@dataclass(frozen=True)
class Link:
    """One stage of the chain. `folder` is where it lies; it and `manifest` are None where it is gone."""

    stage_id: str
    folder: Path | None
    manifest: Manifest | None
    sought: str = ""
    """What a reader recorded of a stage that is gone."""


def explain(run: RunFolder, target: str, say: Callable[[str], None] = print) -> None:
    """Prints the chain that made `target`: a stage, a path below it (`stage/path`), or a student (`stage/student`).

    Raises ConfigError for what is not there, RunError for a damaged manifest.
    """
    name, _, path = target.strip("/").partition("/")
    stage = find_stage(name)
    folder = run.stage(stage.id)
    manifest = Manifest.read(folder)
    if manifest is None:
        done = [stage_id for stage_id in STAGES if run.stage(stage_id).is_dir()]
        raise ConfigError(f"{stage.id} is not finished in {run.path}. Finished: {', '.join(done) or 'none'}.")
    if path and not (folder / path).exists() and (folder / "students" / path).exists():
        path = f"students/{path}"
    say(f"{folder}{'/' + path if path else ''}")
    for line in _files(manifest, stage.id, path):
        say(f"  {line}")
    links = chain(run, stage.id, manifest)
    say("\nmade by, the last first:")
    for number, link in enumerate(links, 1):
        say("")
        for line in _told(number, link):
            say(line)


def chain(run: RunFolder, stage_id: str, manifest: Manifest) -> list[Link]:
    """The stage and all that it was made of, each once, readers before what they read."""
    links = [Link(stage_id, run.stage(stage_id), manifest)]
    for candidate in reversed(STAGES):
        reads = {read: None for link in links if link.manifest for read in link.manifest.inputs.items()}
        for read, identity in reads:
            name, _, output = read.partition("/")
            if name == candidate:
                link = _maker(run, candidate, output, identity)
                links += [link] if link not in links else []
    return links


def _maker(run: RunFolder, stage_id: str, output: str, identity: str) -> Link:
    """The finished or replaced stage whose output (all of them: '') has the identity that was read."""
    replaced = sorted((run.path / ".replaced").glob(f"{stage_id}-*"), reverse=True)
    for folder in (run.stage(stage_id), *replaced):
        try:
            manifest = Manifest.read(folder)
        except RunError:
            continue
        if manifest and manifest.identity(output) == identity:
            return Link(stage_id, folder, manifest)
    return Link(stage_id, None, None, f"{output or 'all its outputs'} with the identity {identity}")


def _files(manifest: Manifest, stage_id: str, path: str) -> list[str]:
    """Each file at or below `path` with its hash; all outputs where no path is given."""
    known = manifest.outputs if not path else {**manifest.outputs, **manifest.records}
    files = below(known, path)
    if not files:
        tops = sorted({name.partition("/")[0] for name in known})
        raise ConfigError(f"{stage_id} made no '{path}'. It made: {', '.join(tops)}.")
    shown = [f"{name}  SHA-256 {digest}" for name, digest in list(files.items())[:SHOWN_FILES]]
    return shown + ([f"… and {len(files) - SHOWN_FILES} files more"] if len(files) > SHOWN_FILES else [])


def _told(number: int, link: Link) -> list[str]:
    stage, manifest = STAGES[link.stage_id], link.manifest
    heading = f"{number}. {stage.id}: {stage.summary} ({stage.paper_name})"
    if manifest is None:
        return [heading, f"   is gone: no folder of this run holds what was read of it ({link.sought})"]
    facts = {
        "folder": str(link.folder),
        "made from": ", ".join(f"{read} ({hashed[:12]}…)" for read, hashed in manifest.inputs.items()) or "no stage",
        "code": commit_in_words(manifest.code),
        "packages": ", ".join(f"{name} {version}" for name, version in manifest.packages.items()),
        "profile": manifest.profile,
        "seed": f"{manifest.seed}, of the run's seed {manifest.config.get('seed', '(not read by this stage)')}",
        "device": f"{manifest.devices}, {manifest.wall_seconds:g} s",
        "attempts": str(manifest.attempts),
        "memory": f"{manifest.peak_memory_bytes / 2**30:.2f} GiB at its peak",
        "tokens": ", ".join(f"{name} {count:,}" for name, count in manifest.tokens.items()) or "none",
    }
    width = max(map(len, facts))
    return [heading, *(f"   {name:<{width}}  {fact}" for name, fact in facts.items()), *_sections(manifest)]


def _sections(manifest: Manifest) -> list[str]:
    """The resolved configuration as YAML, and what the user's files in it were."""
    config = {key: value for key, value in manifest.config.items() if key != "files"}
    lines = ["   configuration", *_yaml(config)]
    if manifest.config.get("files"):
        lines += ["   files that it names, with the SHA-256 of their content", *_yaml(manifest.config["files"], False)]
    return lines


def _yaml(value: Any, brackets: bool | None = None) -> list[str]:
    """The value as YAML, its innermost lists and mappings in brackets unless `brackets` is False."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100, default_flow_style=brackets)
    return [f"     {line}" for line in text.splitlines()]
