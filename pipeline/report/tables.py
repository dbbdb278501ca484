"""Tables shaped like the paper's: 3 (stages by benchmarks), 15 (students), 16 (distillation against RL)."""

from typing import Any

from pipeline.ladder import BASE, DISTILL, STUDENT_RL, Rung
from pipeline.report import paper
from pipeline.report.ladder import main_set, training_tokens
from pipeline.report.records import RunRecord
from pipeline.report.spent import rung_at, training_seconds

Cell = dict[str, Any] | None
"""{value, low?, high?}, shares of 1; None where there is no figure."""

RATES = {"accuracy": "pass@1", "quality": "mean grade"}
"""Name of the main figure of a held-out set, by the set's metric."""


def conditions(run: RunRecord) -> str:
    """How the held-out figures were sampled."""
    sampling, sets = run.evaluation["sampling"], run.evaluation["sets"]
    each = "; ".join(
        f"{name}: {s['questions'] or 'all'} questions × {s['samples']} samples" for name, s in sets.items()
    )
    return (
        f"{each}. Temperature {sampling['temperature']}, top-p {sampling['top_p']}, at most {sampling['max_tokens']} "
        "tokens. In brackets the 95 % interval over questions."
    )


def stages_table(run: RunRecord) -> dict[str, Any] | None:
    """Table 3: a column for each stage of the teacher, a row for each figure. None before `evaluate` has finished."""
    results = run.results()
    if not results:
        return None
    rungs = [rung.name for rung in run.rungs if not rung.student and rung.name in results]
    rows = []
    for name, settings in run.evaluation["sets"].items():
        kind = RATES[settings["metric"]]
        rows.append({"set": name, "figure": kind, "first": True, "cells": [_rate(results[r][name]) for r in rungs]})
        for key in _more_samples(results, name):
            cells = [_share(results[rung][name], key) for rung in rungs]
            rows.append({"set": name, "figure": key, "first": False, "cells": cells})
    main = main_set(run)
    for key, words in (
        ("format", "well formed"),
        ("language_consistency", "language consistency"),
        ("mixed", "answers that mix languages"),
        ("reflection", "answers with a second look"),
        ("truncated", "cut at the limit"),
    ):
        cells = [_share(results[rung][main], key) for rung in rungs]
        if any(cells):
            rows.append({"set": main, "figure": words, "first": key == "format", "cells": cells})
    lengths = [results[rung][main]["mean_tokens"] for rung in rungs]
    columns = list(paper.STAGES)
    return {
        "rungs": rungs,
        "rows": rows,
        "lengths": lengths,
        "main": main,
        "paper_columns": columns,
        "paper_rows": [
            (name, [paper.STAGES[rung][i] for rung in columns]) for i, name in enumerate(paper.STAGE_BENCHMARKS)
        ],
    }


def students_table(run: RunRecord) -> dict[str, Any] | None:
    """Table 15: each student before and after distillation, on every set."""
    results = run.results()
    if not results:
        return None
    columns = _student_columns(run, results)
    rungs = [
        rung.name
        for student in run.students
        for rung in run.rungs
        if rung.student == student and rung.stage.has_students
    ]
    return {
        "columns": _headings(run, columns),
        "rows": [{"rung": rung, "cells": _student_cells(results[rung], columns)} for rung in rungs if rung in results],
        "paper_columns": paper.STUDENT_BENCHMARKS,
        "paper_rows": list(paper.STUDENTS.items()),
    }


def distillation_table(run: RunRecord) -> dict[str, Any] | None:
    """Table 16: one student's base, after RL, and distilled, each way that it was, with as many tokens; and what the
    held-out curves say of each after as many seconds as the quickest took."""
    results = run.results()
    if not results:
        return None
    [student] = [rung.student for rung in run.rungs if rung.stage is STUDENT_RL]
    columns = _student_columns(run, results)
    ways = [rung for rung in run.rungs if rung.stage is DISTILL and rung.student == student]
    trained = [Rung(STUDENT_RL, student), *sorted(ways, key=lambda rung: not rung.method)]
    took = {rung: seconds for rung in trained if (seconds := training_seconds(run, rung)) is not None}
    quickest = min(took.values(), default=None)
    rows = []
    for rung in (Rung(BASE, student), *trained):
        if rung.name not in results:
            continue
        name, published = paper.STUDENT_AIME.get(rung.stage.rung, ("", None)) if not rung.method else ("", None)
        early = rung_at(run, rung, main_set(run), quickest) if rung in took else None
        rows.append(
            {
                "rung": rung.name,
                "cells": _student_cells(results[rung.name], columns),
                "tokens": training_tokens(run, rung),
                "seconds": took.get(rung),
                "early": {"value": early} if early is not None else None,
                "paper": published,
                "paper_name": name,
            }
        )
    return {"rows": rows, "columns": _headings(run, columns), "student": student, "quickest": quickest}


def _student_columns(run: RunRecord, results: dict) -> list[tuple[str, str]]:
    """(held-out set, figure): pass@1, pass@k and cons@k on the main set, pass@1 on the others."""
    main = main_set(run)
    columns = [(main, "pass@1"), *((main, key) for key in _more_samples(results, main))]
    return columns + [(name, "pass@1") for name in run.evaluation["sets"] if name != main]


def _headings(run: RunRecord, columns: list[tuple[str, str]]) -> list[str]:
    metrics = {name: settings["metric"] for name, settings in run.evaluation["sets"].items()}
    return [f"{name} {RATES[metrics[name]] if key == 'pass@1' else key}" for name, key in columns]


def _student_cells(sets: dict, columns: list[tuple[str, str]]) -> list[Cell]:
    return [_rate(sets[name]) if key == "pass@1" else _share(sets[name], key) for name, key in columns]


def _rate(figures: dict) -> Cell:
    return {"value": figures["pass@1"], "low": figures["low"], "high": figures["high"]}


def _share(figures: dict, key: str) -> Cell:
    return None if figures.get(key) is None else {"value": figures[key]}


def _more_samples(results: dict, name: str) -> list[str]:
    """The figures of several samples on a set, by their number: pass@k before cons@k."""
    keys = {key for sets in results.values() for key in sets.get(name, {})} - {"pass@1"}
    found = [key.split("@") for key in keys if key.startswith(("pass@", "cons@"))]
    return [f"{kind}@{k}" for kind, k in sorted(found, key=lambda each: (int(each[1]), each[0] == "cons"))]
