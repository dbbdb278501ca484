"""The stage graph: who starts from whom. The order of `LADDER` is the order in which stages run."""

from dataclasses import dataclass

from pipeline.core.errors import ConfigError


@dataclass(frozen=True)
class StageDefinition:
    id: str
    reads: tuple[str, ...]
    """What it starts from: a stage, or `stage/output` where it reads only that output, so that a change of another
    (a further student, say) leaves it valid."""
    shared: tuple[str, ...]
    """Sections of the profile beside the stage's own that its result hangs on."""
    paper_name: str
    summary: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The stages that it reads from, each once."""
        return tuple(dict.fromkeys(read.partition("/")[0] for read in self.reads))

    @property
    def module(self) -> str:
        return f"stages.{self.id}"


_SAMPLES = ("questions", "cleaning", "templates", "dtype", "seed")

_TRAINED = ("dtype", "seed")
_BASE, _STUDENTS = "base_model/checkpoint", "base_model/students"

LADDER = (
    StageDefinition("base_model", (), ("dtype",), "V3-Base", "fetch the base model and the student bases"),
    StageDefinition("r1_zero", (_BASE,), _SAMPLES, "R1-Zero", "GRPO from the base with rule rewards"),
    StageDefinition("cold_start_data", ("r1_zero",), _SAMPLES, "cold-start data", "readable samples of R1-Zero"),
    StageDefinition("cold_start_sft", (_BASE, "cold_start_data"), _TRAINED, "Dev1", "SFT on them"),
    StageDefinition("reasoning_rl", ("cold_start_sft",), _SAMPLES, "Dev2", "GRPO with language consistency"),
    StageDefinition("rejection_sampling", ("reasoning_rl",), _SAMPLES, "the 800k", "correct samples, general rows"),
    StageDefinition("sft", (_BASE, "rejection_sampling"), _TRAINED, "Dev3", "SFT from the base"),
    StageDefinition("reward_model", ("sft",), _SAMPLES, "the reward models", "helpful and harmless scorers"),
    StageDefinition("general_rl", ("sft", "reward_model"), _SAMPLES, "R1", "GRPO, rules and reward models"),
    StageDefinition("distill", (_STUDENTS, "rejection_sampling"), _TRAINED, "R1-Distill", "SFT of students"),
    StageDefinition("student_rl", (_STUDENTS, "distill"), _SAMPLES, "Qwen-32B-Zero", "RL on a student, same tokens"),
    StageDefinition(
        "evaluate",
        ("base_model", "r1_zero", "cold_start_sft", "reasoning_rl", "sft", "general_rl", "distill", "student_rl"),
        ("templates", "dtype"),
        "Tables 3, 15, 16",
        "every checkpoint on held-out questions",
    ),
    StageDefinition(
        "report",
        (
            "base_model", "r1_zero", "cold_start_data", "cold_start_sft", "reasoning_rl", "rejection_sampling", "sft",
            "reward_model", "general_rl", "distill", "student_rl", "evaluate",
        ),
        (),
        "the paper",
        "one HTML file",
    ),
)  # fmt: skip

STAGES = {stage.id: stage for stage in LADDER}


def find_stage(name: str) -> StageDefinition:
    """A stage by id, dashes allowed."""
    stage = STAGES.get(name.replace("-", "_"))
    if stage is None:
        raise ConfigError(f"No stage '{name}'. Stages: {', '.join(STAGES)}, or 'all'.")
    return stage


def needed_for(stage: StageDefinition) -> list[StageDefinition]:
    """The stage and everything before it that it hangs on, in running order."""
    wanted = {stage.id}
    for candidate in reversed(LADDER):
        if candidate.id in wanted:
            wanted.update(candidate.inputs)
    return [candidate for candidate in LADDER if candidate.id in wanted]
