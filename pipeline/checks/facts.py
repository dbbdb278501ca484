"""What `make check` finds, as data: for scripts that read it (`--json`)."""

from typing import Any

from pipeline.checks.data import all_sources, data_notes, sample_of
from pipeline.checks.fit import Reload, overfull, smallest_change
from pipeline.checks.models import estimates, model_notes, model_sources
from pipeline.checks.puzzles import puzzle_notes
from pipeline.checks.questions import question_notes
from pipeline.checks.steps import step_notes
from pipeline.config.profile import Profile
from pipeline.models.memory import Estimate, intended_device
from pipeline.models.shapes import active_of, parameters_of

GIB = 2**30


def check_facts(profile: Profile, reload: Reload, processes: int = 1) -> dict[str, Any]:
    """Models, memory in GiB, questions, arithmetic and warnings; null where something is not known here."""
    device = intended_device(profile, processes)
    return {
        "profile": profile.name,
        "description": profile.description,
        "device": str(device),
        "processes": processes,
        "models": [
            {"role": role, "source": source, "parameters": parameters_of(source), "active": active_of(source)}
            for role, source in model_sources(profile).items()
        ],
        "memory": [
            {"model": role, "stage": stage, "gib": estimate and _gib(estimate), "fits": _fits(estimate, device.size)}
            for role, stage, _, estimate in estimates(profile, device)
        ],
        "fits": not overfull(profile, processes),
        "smallest_change": smallest_change(profile, reload, processes),
        "questions": [_source(where, source, group) for where, source, group in all_sources(profile)],
        "arithmetic": {name: section.grpo.describe() for name, section in profile.stages.policies.items()},
        "notes": [
            note
            for notes in (model_notes, data_notes, question_notes, puzzle_notes, step_notes)
            for note in notes(profile)
        ],
    }


def _gib(estimate: Estimate) -> dict[str, float]:
    parts = {"weights": estimate.weights, "frozen": estimate.reference, "activations": estimate.activations}
    parts |= {"engine": estimate.engine, "total": estimate.total}
    return {name: round(size / GIB, 2) for name, size in parts.items()}


def _fits(estimate: Estimate | None, size: float) -> bool | None:
    return None if estimate is None else estimate.total <= size


def _source(where: str, source, group: str | None) -> dict[str, Any]:
    looked = sample_of(source, group)
    return {
        "where": where,
        "source": source.use,
        "rows": len(looked.rows) if looked.whole else None,
        "no_answer": sum(row.answer is None for row in looked.rows),
        "unreadable": len(looked.unreadable),
        "problem": looked.note or None,
    }
