"""One of the paper's effects, the verdict of a run's figures on it, and its wording."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table
from rich.text import Text

from pipeline.core.tables import print_table


class Verdict(StrEnum):
    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "not decided"
    """The interval of the difference contains the value that the effect asks for."""
    NO_FIGURES = "no figures"


MARKS = {Verdict.HOLDS: "✓", Verdict.REFUTED: "✗", Verdict.UNDECIDED: "?", Verdict.NO_FIGURES: "–"}
COLOURS = {Verdict.HOLDS: "green", Verdict.REFUTED: "red"}


@dataclass(frozen=True)
class Claim:
    """One effect. `held` is None where the run has no figures for it; `test` says what was compared with what."""

    name: str
    statement: str
    test: str
    figures: str
    held: bool | None
    undecided_by: int = 0
    """If it did not hold: the number of questions that were too few to decide; 0 if the figures contradict it."""

    @property
    def verdict(self) -> Verdict:
        if self.held is None:
            return Verdict.NO_FIGURES
        return Verdict.HOLDS if self.held else Verdict.UNDECIDED if self.undecided_by else Verdict.REFUTED

    @property
    def in_words(self) -> str:
        """The verdict with its mark."""
        many = f" by {self.undecided_by} questions" if self.verdict is Verdict.UNDECIDED else ""
        return f"{MARKS[self.verdict]} {self.verdict}{many}"


def counted(claims: Collection[Claim]) -> str:
    """Such as `9 of 12 effects hold, 1 is refuted, 2 are not decided by so many questions`."""
    counts = Counter(claim.verdict for claim in claims)
    parts = [f"{counts[Verdict.HOLDS]} of {len(claims)} effects hold"]
    endings = {Verdict.REFUTED: "refuted", Verdict.UNDECIDED: "not decided by so many questions"}
    for verdict, ending in endings.items():
        if count := counts[verdict]:
            parts.append(f"{count} {'is' if count == 1 else 'are'} {ending}")
    if count := counts[Verdict.NO_FIGURES]:
        parts.append(f"{count} {'has' if count == 1 else 'have'} no figures")
    return ", ".join(parts)


def print_claims(verdicts: Mapping[str, Sequence[Claim]]) -> None:
    """One column per run, and one of their means; then how many effects hold in each and in all."""
    print_table(claims_table(verdicts))
    for name, claims in verdicts.items():
        print(f"{name}: {counted(claims)}")
    everywhere = [row[0].name for row in zip(*verdicts.values(), strict=True) if all(claim.held for claim in row)]
    if len(verdicts) > 1:
        print(f"in every seed and together: {len(everywhere)} ({', '.join(everywhere) or 'none'})")


def claims_table(verdicts: Mapping[str, Sequence[Claim]]) -> Table:
    table = Table("claim", *verdicts, title="the paper's effects", title_justify="left", show_lines=True)
    for row in zip(*verdicts.values(), strict=True):
        cells = [
            Text.assemble((claim.in_words, COLOURS.get(claim.verdict, "yellow")), f"\n{claim.figures}") for claim in row
        ]
        table.add_row(row[0].statement, *cells)
    return table
