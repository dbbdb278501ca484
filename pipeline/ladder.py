"""The ladder, on one page: what each stage is, what it reads, and which of its checkpoints are measured.

A row of `LADDER` is all that other code knows of a stage; its order is the order in which stages run. To add a stage,
write `stages/ID.py`, a row here, and a field of `pipeline.config.stages.Stages` with the section that a profile gives
it: make targets, `check`, `status`, evaluation, report and export follow from the row.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.core.errors import ConfigError

Kind = Literal["base", "rl", "sft", "rows", "scorer", "evaluate", "report"]
"""What a stage does: fetches the base models, trains by RL, trains by SFT, samples rows to train on, trains scorers of
answers, measures checkpoints, or writes the report."""

SFT = "sft"
NOTHING: Mapping[str, Collection[str]] = {}
_SAMPLES, _TRAINED = ("questions", "cleaning", "templates", "dtype", "seed"), ("dtype", "seed")
_SHARED: dict[Kind, tuple[str, ...]] = {
    "base": ("dtype",), "rl": _SAMPLES, "sft": _TRAINED, "rows": _SAMPLES, "scorer": _SAMPLES,
    "evaluate": ("templates", "dtype"), "report": (),
}  # fmt: skip


@dataclass(frozen=True)
class StageDefinition:
    """One stage: a row of the table."""

    id: str
    kind: Kind
    starts_from: str = ""
    """The stage whose checkpoint it trains further, or samples answers of."""
    learns_from: str = ""
    """The other stage that it reads: one that gives rows or scorers, or whose count of tokens limits it."""
    trains: Literal["teacher", "students", "one student", "teacher and students"] = "teacher"
    """Whose models it makes or, of a stage that trains none, reads. Which student `one student` is, its section of the
    profile says (`student`)."""
    teacher: str = ""
    """The stage whose checkpoint it is taught by token by token, where a profile distils on-policy."""
    template: str = ""
    """The prompts that its models are trained, sampled and measured with: `r1_zero` (plain text) or `chat`."""
    rung: str = ""
    """What its checkpoints are called where they are measured, a student's after the student's name ('' for none)."""
    paper: str = ""
    """Where DeepSeek-R1 describes it: version of arXiv 2501.12948, section."""
    paper_name: str = ""
    summary: str = ""

    @property
    def has_teacher(self) -> bool:
        """Whether it gives a checkpoint of the teacher."""
        return self.trains in ("teacher", "teacher and students")

    @property
    def has_students(self) -> bool:
        """Whether it gives a checkpoint of every student."""
        return self.trains in ("students", "teacher and students")

    @property
    def reads(self) -> tuple[str, ...]:
        """What its result depends on: a stage, or `stage/output` where it reads only that output, so that a change of
        another output (a further student, say) leaves it valid."""
        if self.kind == "evaluate":
            return tuple(stage.id for stage in LADDER if stage.rung)
        if self.kind == "report":
            return tuple(stage.id for stage in LADDER if stage != self)
        start = self.starts_from
        if start and STAGES[start].kind == "base":
            start += "/checkpoint" if self.has_teacher else "/students"
        return tuple(read for read in (start, self.learns_from) if read)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The stages that it reads from, each once."""
        return self.inputs_of(())

    def reads_of(self, taught: Collection[str]) -> tuple[str, ...]:
        """What it reads in a profile whose stages `taught` distil on-policy: their teacher's checkpoint too."""
        return (*self.reads, f"{self.teacher}/checkpoint") if self.id in taught else self.reads

    def inputs_of(self, taught: Collection[str]) -> tuple[str, ...]:
        """The stages of `reads_of`, each once."""
        return tuple(dict.fromkeys(read.partition("/")[0] for read in self.reads_of(taught)))

    @property
    def shared(self) -> tuple[str, ...]:
        """Sections of the profile beside the stage's own that its result depends on."""
        return _SHARED[self.kind]

    @property
    def module(self) -> str:
        return f"stages.{self.id}"

    @property
    def target(self) -> str:
        """What the stage is called on make's command line."""
        return self.id.replace("_", "-")

    def checkpoint(self, student: str = "") -> str:
        """Where in the stage's folder the teacher's or a student's checkpoint lies. A stage that trains one student
        has no other."""
        if not student or self.trains == "one student":
            return "checkpoint"
        return f"students/{student}" if self.kind == "base" else f"students/{student}/checkpoint"


# fmt: off
LADDER = (
    StageDefinition(
        "base_model", "base", trains="teacher and students", template="r1_zero", rung="base",
        paper="v1, 2.2", paper_name="V3-Base", summary="fetch the base model and the student bases"),
    StageDefinition(
        "r1_zero", "rl", starts_from="base_model", template="r1_zero", rung="R1-Zero",
        paper="v1, 2.2", paper_name="R1-Zero", summary="GRPO from the base with rule rewards"),
    StageDefinition(
        "cold_start_data", "rows", starts_from="r1_zero", template="r1_zero",
        paper="v1, 2.3.1", paper_name="cold-start data", summary="readable samples of R1-Zero"),
    StageDefinition(
        "cold_start_sft", "sft", starts_from="base_model", learns_from="cold_start_data", template="chat", rung="Dev1",
        paper="v1, 2.3.1", paper_name="Dev1", summary="SFT of the base on the cold start"),
    StageDefinition(
        "reasoning_rl", "rl", starts_from="cold_start_sft", template="chat", rung="Dev2",
        paper="v1, 2.3.2", paper_name="Dev2", summary="GRPO with language consistency"),
    StageDefinition(
        "rejection_sampling", "rows", starts_from="reasoning_rl", template="chat",
        paper="v1, 2.3.3", paper_name="the 800k", summary="correct samples, general rows"),
    StageDefinition(
        "sft", "sft", starts_from="base_model", learns_from="rejection_sampling", template="chat", rung="Dev3",
        paper="v1, 2.3.3", paper_name="Dev3", summary="SFT of the base on sampled and general rows"),
    StageDefinition(
        "reward_model", "scorer", starts_from="sft", template="chat",
        paper="v1, 2.3.4", paper_name="the reward models", summary="helpful and harmless scorers"),
    StageDefinition(
        "general_rl", "rl", starts_from="sft", learns_from="reward_model", template="chat", rung="R1",
        paper="v1, 2.3.4", paper_name="R1", summary="GRPO with rules and reward models"),
    StageDefinition(
        "distill", "sft", starts_from="base_model", learns_from="rejection_sampling", trains="students",
        teacher="general_rl", template="chat", rung="distilled",
        paper="v1, 2.4", paper_name="R1-Distill", summary="SFT of the students on the teacher's rows"),
    StageDefinition(
        "student_rl", "rl", starts_from="base_model", learns_from="distill", trains="one student",
        template="r1_zero", rung="RL",
        paper="v1, 4.1", paper_name="Qwen-32B-Zero", summary="GRPO with the tokens that distilling took"),
    StageDefinition(
        "evaluate", "evaluate",
        paper="v1, 3", paper_name="Tables 3, 15, 16", summary="every checkpoint on held-out questions"),
    StageDefinition(
        "report", "report",
        paper_name="the paper", summary="one HTML file"),
)
# fmt: on

STAGES = {stage.id: stage for stage in LADDER}


def of_kind(*kinds: Kind) -> tuple[StageDefinition, ...]:
    """The stages of these kinds, in the ladder's order."""
    return tuple(stage for stage in LADDER if stage.kind in kinds)


[BASE], [EVALUATE], [REPORT] = of_kind("base"), of_kind("evaluate"), of_kind("report")
DISTILL = next(stage for stage in of_kind("sft") if stage.has_students)
STUDENT_RL = next(stage for stage in of_kind("rl") if stage.learns_from == DISTILL.id)
"""What the paper compares distillation with."""


@dataclass(frozen=True)
class Rung:
    """One checkpoint that is measured: that of a stage, or of one student of a stage."""

    stage: StageDefinition
    student: str = ""
    """'' for the teacher's."""
    method: str = ""
    """How the student was distilled, where that is not how all are (`compare`)."""

    @property
    def name(self) -> str:
        if not self.student:
            return self.stage.rung
        return f"{self.student} {self.method.replace('_', '-') or self.stage.rung}"

    @property
    def output(self) -> str:
        """What its stage calls it among those that it trains: `qwen`, or `qwen/on_policy`."""
        return f"{self.student}/{self.method}" if self.method else self.student

    @property
    def checkpoint(self) -> str:
        """Where it lies in its stage's folder."""
        return self.stage.checkpoint(self.output)

    @property
    def start(self) -> "Rung | None":
        """The rung that it was trained from; None of a base."""
        start = STAGES.get(self.stage.starts_from)
        return start and Rung(start, "" if start.trains == "teacher" else self.student)

    @property
    def teacher(self) -> "Rung | None":
        """The rung whose answers it was trained on, where it learns from sampled rows, or the one that taught it."""
        if self.method and self.method != SFT:
            return Rung(STAGES[self.stage.teacher])
        rows = STAGES.get(self.stage.learns_from)
        return Rung(STAGES[rows.starts_from]) if rows and rows.kind == "rows" else None


def rungs(
    students: Collection[str], chosen: Mapping[str, str], compared: Mapping[str, Collection[str]] = NOTHING
) -> list[Rung]:
    """Every checkpoint that is measured: the teacher's, then the students', each in the ladder's order.

    `chosen` says of each stage that trains one student which one: stage id -> student. `compared`: student -> the
    methods that it is distilled by besides that of all students.
    """
    measured = [stage for stage in LADDER if stage.rung]
    found = [Rung(stage) for stage in measured if stage.has_teacher]
    for stage in measured:
        if stage.trains == "one student":
            found.append(Rung(stage, chosen[stage.id]))
        elif stage.has_students:
            found += [Rung(stage, student) for student in students]
            if stage is DISTILL:
                found += [Rung(stage, student, method) for student, methods in compared.items() for method in methods]
    return found


def find_stage(name: str) -> StageDefinition:
    """A stage by id, dashes allowed."""
    stage = STAGES.get(name.replace("-", "_"))
    if stage is None:
        raise ConfigError(f"No stage '{name}'. Stages: {', '.join(STAGES)}, or 'all'.")
    return stage


def needed_for(stage: StageDefinition, taught: Collection[str] = ()) -> list[StageDefinition]:
    """The stage and everything before it that it depends on, in running order. `taught`: the stages that distil
    on-policy."""
    wanted = {stage.id}
    for candidate in reversed(LADDER):
        if candidate.id in wanted:
            wanted.update(candidate.inputs_of(taught))
    return [candidate for candidate in LADDER if candidate.id in wanted]
