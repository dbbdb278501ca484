"""What the models wrote, for the page's viewer: held-out answers of every rung and step, and training rollouts.

The rows are embedded in the page, compressed and bounded: if they do not all fit, every block gives the first samples
of each question before later ones, so that the same questions stay side by side. The page says how many are left out.
"""

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.figures import short
from pipeline.ladder import EVALUATE
from pipeline.report.curves import RL_STAGES, labelled, specs_of
from pipeline.report.records import RunRecord, StageRecord, read_lines

MOST_BYTES = 12 * 2**20
"""UTF-8 bytes of embedded text: keeps the page below 8 MB even if text compresses only to a third."""
MOST_STEPS = 40
"""Steps of one RL stage whose training rollouts are read."""
LONGEST_TEXT = 8000
"""Characters of one text; of longer ones the middle is cut out."""
MIXED_BELOW = 0.95
"""Share of words in the question's language below which an answer counts as mixed, as in `evaluate`."""


@dataclass(frozen=True)
class Block:
    """The samples of one source: a rung on a set, or one step of training. Rows are dictionaries of `_row`."""

    label: str
    kind: str
    """`rung`, `heldout` (held-out questions while training) or `training`."""
    stage: str
    step: int | None
    rows: list[dict[str, Any]]


def viewer_data(run: RunRecord) -> dict[str, Any] | None:
    """The rows as compressed JSON in base64, and what of all there is was taken; None where there is nothing yet.

    {packed, shown, total (rows read), training: [(stage, steps read, steps written)], per_step (rows read of a step)}.
    """
    per_step = run.profile.stages.report.rollouts_per_step
    files = {stage_id: run.stages[stage_id].files("rollouts/step-*.jsonl") for stage_id in RL_STAGES}
    chosen_files = {stage_id: _spread(paths, MOST_STEPS) for stage_id, paths in files.items()}
    blocks = [*_rungs(run), *_heldout(run), *_training(run, chosen_files, per_step)]
    total = sum(len(block.rows) for block in blocks)
    if not total:
        return None
    chosen = _within(blocks, MOST_BYTES)
    questions: dict[tuple, int] = {}
    packed = [_columns(block, rows, questions) for block, rows in zip(blocks, chosen, strict=True) if rows]
    texts = {row["question"][:2]: row["question"][2:] for block in blocks for row in block.rows}
    table = [{"text": texts[key][0], "answer": texts[key][1]} for key in questions]
    data = {"blocks": packed, "questions": table}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    packed_text = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return {
        "packed": packed_text,
        "shown": sum(map(len, chosen)),
        "total": total,
        "training": [(name, len(chosen_files[name]), len(paths)) for name, paths in files.items() if paths],
        "per_step": per_step,
    }


def _rungs(run: RunRecord) -> Iterator[Block]:
    for rung, sets in run.results().items():
        for name in sets:
            path = run.evaluate.folder / "samples" / f"{rung}-{name}.jsonl"
            yield Block(rung, "rung", EVALUATE.id, None, [_sample(row, name) for row in read_lines(path)])


def _heldout(run: RunRecord) -> Iterator[Block]:
    for stage_id in RL_STAGES:
        stage = run.stages[stage_id]
        for path in stage.files("heldout/step-*.jsonl"):
            step = _step(path)
            rows = [_sample(row, stage.config["heldout"]["set"]) for row in read_lines(path)]
            yield Block(f"{run.title(stage_id)} at step {step}", "heldout", stage_id, step, rows)


def _training(run: RunRecord, files: dict[str, list[Path]], per_step: int) -> Iterator[Block]:
    for stage_id, paths in files.items():
        stage = run.stages[stage_id]
        for path in paths:
            step = _step(path)
            rows = [_rollout(row, stage) for row in islice(read_lines(path), per_step)]
            yield Block(f"{run.title(stage_id)}, training step {step}", "training", stage_id, step, rows)


def _spread(paths: list[Path], most: int) -> list[Path]:
    """At most `most` of the files, first and last among them, as evenly spread as they come."""
    if len(paths) <= most:
        return paths
    return [paths[round(i * (len(paths) - 1) / (most - 1))] for i in range(most)]


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _sample(row: dict, set_name: str) -> dict[str, Any]:
    """A judged held-out answer, as `evaluate` writes it."""
    return {
        "question": (row["question_id"], set_name, row["question"], row["answer"]),
        "text": _cut(row["text"]),
        "reward": row["score"],
        "verdict": row["verdict"],
        "tokens": row["tokens"],
        "truncated": row["truncated"],
        "language": row["language_share"],
        "well_formed": row["well_formed"],
        "rewards": None,
    }


def _rollout(row: dict, stage: StageRecord) -> dict[str, Any]:
    """A training completion, as the GRPO trainer writes it: the weighted reward, and accuracy as the verdict."""
    scores = {label: score for label, score in labelled(stage, row["rewards"]).items() if score is not None}
    accuracy, form = row["rewards"].get("accuracy"), row["rewards"].get("format")
    return {
        "question": (row["id"], "training", row["prompt"], row.get("answer")),
        "text": _cut(row["completion"]),
        "reward": row["reward"] if "reward" in row else _weighted(stage, row["rewards"]),
        "verdict": "not judged" if accuracy is None else "correct" if accuracy > 0 else "wrong",
        "tokens": row["tokens"],
        "truncated": row["finish_reason"] == "length",
        "language": row["rewards"].get("language"),
        "well_formed": None if form is None else form > 0,
        "rewards": scores | {"advantage": row["advantage"]},
    }


def _weighted(stage: StageRecord, rewards: dict[str, float | None]) -> float | None:
    """The weighted sum of the rewards, for runs whose rollouts do not hold it: what a recipe adds counts once."""
    specs = specs_of(stage, rewards)
    parts = [specs.get(name, {}).get("weight", 1.0) * value for name, value in rewards.items() if value is not None]
    return sum(parts) if parts else None


def _within(blocks: list[Block], most: int) -> list[list[dict]]:
    """The rows of each block that fit into `most` bytes together: first samples of all questions first."""
    ranked = []
    for number, block in enumerate(blocks):
        seen: dict[tuple, int] = {}
        for place, row in enumerate(block.rows):
            rank = seen[row["question"]] = seen.get(row["question"], -1) + 1
            ranked.append((rank, len(seen), number, place))
    ranked.sort()
    chosen: list[list[int]] = [[] for _ in blocks]
    used = 0
    for _, _, number, place in ranked:
        used += len(blocks[number].rows[place]["text"].encode()) + 60
        if used > most:
            break
        chosen[number].append(place)
    return [[block.rows[place] for place in sorted(places)] for block, places in zip(blocks, chosen, strict=True)]


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def _columns(block: Block, rows: list[dict], questions: dict[tuple, int]) -> dict[str, Any]:
    """The block's rows, a list for each field; `questions` numbers the questions as they come."""
    names = sorted({name for row in rows for name in row["rewards"] or ()})
    return {
        "label": block.label,
        "kind": block.kind,
        "stage": block.stage,
        "step": block.step,
        "set": rows[0]["question"][1],
        "question": [questions.setdefault(row["question"][:2], len(questions)) for row in rows],
        "text": [row["text"] for row in rows],
        "tokens": [row["tokens"] for row in rows],
        "verdict": [row["verdict"] for row in rows],
        "truncated": [int(row["truncated"]) for row in rows],
        "mixed": [int(row["language"] is not None and row["language"] < MIXED_BELOW) for row in rows],
        "wellFormed": [row["well_formed"] if row["well_formed"] is None else int(row["well_formed"]) for row in rows],
        "reward": [short(row["reward"], 3) for row in rows],
        "rewards": {name: [short((row["rewards"] or {}).get(name), 3) for row in rows] for name in names},
    }
