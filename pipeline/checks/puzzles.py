"""Whether the reasoning-gym tasks of a profile need thought: a constant answer, or a copy of something that stands in
the question, must not solve them. What does best at each task was looked for once (`python -m benchmarks.gym`, see
docs/reasoning-gym.md); here it is tried on questions with the profile's own arguments."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from data_recipes.sources.gym_rows import entries_of
from pipeline.checks.data import all_sources
from pipeline.config.data import QuestionSource
from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError
from rewards.grading import pool
from rewards.grading.gym_shortcuts import recorded
from rewards.grading.verifiers import Job

SCHEME = "reasoning_gym:"
QUESTIONS = 40
SEED = 2**20
WORTH_TRYING = 0.3
"""Share of a task's questions that its best shortcut gets at the task's own arguments, from which it is tried here."""
SUSPECT = 0.5
SOLVED = 0.8
"""Shares of the questions that a shortcut gets, from which a task is warned of, and refused for training."""
SECONDS = 20.0


@dataclass(frozen=True)
class Shortcut:
    """An answer without thought, and how far it goes."""

    task: str
    answer: str
    share: float
    questions: int

    def __str__(self) -> str:
        return f"{self.answer} gets full marks on {self.share:.0%} of {self.questions} questions of {self.task}"


def check_puzzles(profile: Profile) -> None:
    """Raises ConfigError for a task to train on that a shortcut solves."""
    for where, found in shortcuts(profile):
        if found.share >= SOLVED and where.startswith("questions."):
            raise ConfigError(
                f"{where}: {found}: a policy would learn that and nothing else. Leave the task out, or give it args "
                "under which it takes thought (docs/reasoning-gym.md has all tasks)."
            )


def puzzle_notes(profile: Profile) -> Iterator[str]:
    """A warning for each task of which a shortcut gets a good share."""
    for where, found in shortcuts(profile):
        if found.share >= SUSPECT:
            yield f"warning: {where}: {found}. A policy may settle on that."


def shortcuts(profile: Profile) -> Iterator[tuple[str, Shortcut]]:
    """(where, the best shortcut) of each reasoning-gym task of the profile that has one."""
    for where, source, _ in all_sources(profile):
        if source.use.startswith(SCHEME):
            for found in _shortcuts_of(source.model_copy(update={"weight": 1.0, "domain": None}).model_dump_json()):
                yield where, found


@cache
def _shortcuts_of(source_json: str) -> tuple[Shortcut, ...]:
    source = QuestionSource.model_validate_json(source_json)
    task = source.use.removeprefix(SCHEME)
    known = {name: _labels(figures) for name, figures in recorded().items()}
    if task in known and not known[task]:
        return ()
    by_task: dict[str, list[dict[str, Any]]] = {}
    for entry in entries_of(task, QUESTIONS, SEED, source.args):
        by_task.setdefault(entry["metadata"]["source_dataset"], []).append(entry)
    jobs = {
        name: Job(
            "rewards.grading.gym_shortcuts:tried",
            {"entries": entries, "labels": known[name], "seconds": SECONDS},
            10 * SECONDS, 4 * SECONDS, alone=True,
        )
        for name, entries in by_task.items() if known.get(name)
    }  # fmt: skip
    found = []
    for name, outcome in zip(jobs, pool.shared().run(list(jobs.values())), strict=True):
        shares = {label: (right / count, count) for label, (right, count) in (outcome.value or {}).items() if count}
        if shares:
            best = max(shares, key=lambda label: shares[label][0])
            found.append(Shortcut(name, best, *shares[best]))
    return tuple(found)


def _labels(figures: dict[str, Any]) -> list[str]:
    """The shortcuts of a task that are worth trying."""
    return [best[0] for best in (figures.get("constant"), figures.get("copy")) if best and best[1] >= WORTH_TRYING]
