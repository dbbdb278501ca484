"""The figures of finished runs that claims are tested by: of one run, or the means of several seeds."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from pipeline.config.profile import Profile
from pipeline.ladder import EVALUATE, Rung, rungs
from pipeline.report.records import read_lines
from pipeline.runs.folder import RunFolder
from pipeline.steps.evaluation import Z_95


@dataclass(frozen=True)
class Difference:
    """Mean difference of two rungs' pass@1 over the same questions, with its 95 % interval."""

    mean: float
    low: float
    high: float
    questions: int

    def undecided(self, asked: float = 0.0) -> int:
        """The number of questions if they are too few to decide whether the difference is over `asked`; else 0."""
        return self.questions if self.low <= asked <= self.high else 0

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


class Figures(Protocol):
    """What a claim can ask for. Shares are 0..1."""

    reasoning: str
    """The evaluation set that the ladder is measured by."""
    general: list[str]
    """Sets of general questions."""
    rungs: list[Rung]

    def get(self, rung: str, figure: str = "pass@1", name: str | None = None) -> float | None:
        """A figure of a rung on a set; None for a share of answers of which there are none."""

    def votes(self, rung: str) -> list[str]:
        """The names of its figures of majority votes, `cons@k`."""

    def lengths(self, rung: str) -> list[float]:
        """Mean response length in tokens, of each step of its training."""

    def curve(self, rung: str) -> dict[int, float]:
        """Step -> pass@1 on held-out questions while it was trained."""

    def difference(self, better: str, worse: str, names: list[str] | None = None) -> Difference:
        """pass@1 of one rung minus another's on the same questions."""


class RunFigures:
    """A finished run's evaluation: figures by rung and set, and per-question rates."""

    def __init__(self, profile: Profile, run: RunFolder):
        self.run = run
        self.folder = run.stage(EVALUATE.id)
        self.results = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))["results"]
        sets = profile.stages.evaluate.sets
        self.reasoning = next(name for name, settings in sets.items() if settings.metric == "accuracy")
        self.general = [name for name, settings in sets.items() if settings.metric == "quality"]
        self.rungs = rungs(*profile.stages.measured)
        self._rates: dict[tuple[str, str], dict[str, float]] = {}

    def get(self, rung: str, figure: str = "pass@1", name: str | None = None) -> float | None:
        return self.results[rung][name or self.reasoning][figure]

    def votes(self, rung: str) -> list[str]:
        return [key for key in self.results[rung][self.reasoning] if key.startswith("cons@")]

    def lengths(self, rung: str) -> list[float]:
        return [row["completion_tokens"] for row in read_lines(self._stage(rung) / "metrics.jsonl")]

    def curve(self, rung: str) -> dict[int, float]:
        path = self._stage(rung) / "heldout.jsonl"
        return {row["step"]: row["pass@1"] for row in read_lines(path)} if path.is_file() else {}

    def _stage(self, name: str):
        [stage] = [rung.stage for rung in self.rungs if rung.name == name]
        return self.run.stage(stage.id)

    def rates(self, rung: str, name: str) -> dict[str, float]:
        """Question -> share of right samples. A recipe with few questions draws some twice: those are one here."""
        if (rung, name) not in self._rates:  # many claims compare the same rungs
            scores: dict[str, list[float]] = {}
            for sample in read_lines(self.folder / "samples" / f"{rung}-{name}.jsonl"):
                if sample["score"] is not None:
                    scores.setdefault(sample.get("question", sample["question_id"]), []).append(sample["score"])
            self._rates[rung, name] = {question: fmean(found) for question, found in scores.items()}
        return self._rates[rung, name]

    def gaps(self, better: str, worse: str, names: list[str] | None = None) -> dict[tuple[str, str], float]:
        """(set, question) -> share of right samples of one rung minus that of another, where both were judged."""
        found = {}
        for name in names or [self.reasoning]:
            first, second = self.rates(better, name), self.rates(worse, name)
            found |= {(name, question): first[question] - second[question] for question in first if question in second}
        return found

    def difference(self, better: str, worse: str, names: list[str] | None = None) -> Difference:
        """Paired, normal approximation over questions."""
        return _difference(list(self.gaps(better, worse, names).values()))


class MeanFigures:
    """The means of several runs' figures. A difference is paired within each run, averaged over the runs question by
    question, and tested over questions: the result holds for these seeds and for other questions of this kind."""

    def __init__(self, runs: Sequence[RunFigures]):
        self.runs = runs
        self.reasoning, self.general, self.rungs = runs[0].reasoning, runs[0].general, runs[0].rungs

    def get(self, rung: str, figure: str = "pass@1", name: str | None = None) -> float | None:
        found = [run.get(rung, figure, name) for run in self.runs]
        return None if None in found else fmean(found)

    def votes(self, rung: str) -> list[str]:
        return self.runs[0].votes(rung)

    def lengths(self, rung: str) -> list[float]:
        return [fmean(step) for step in zip(*(run.lengths(rung) for run in self.runs), strict=False)]

    def curve(self, rung: str) -> dict[int, float]:
        curves = [run.curve(rung) for run in self.runs]
        common = [step for step in curves[0] if all(step in curve for curve in curves)]
        return {step: fmean(curve[step] for curve in curves) for step in common}

    def difference(self, better: str, worse: str, names: list[str] | None = None) -> Difference:
        found = [run.gaps(better, worse, names) for run in self.runs]
        common = [question for question in found[0] if all(question in gaps for gaps in found)]
        return _difference([fmean(gaps[question] for gaps in found) for question in common])


def _difference(gaps: list[float]) -> Difference:
    mean = fmean(gaps)
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps) - 1) / len(gaps))
    return Difference(mean, mean - Z_95 * error, mean + Z_95 * error, len(gaps))
