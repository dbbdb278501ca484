"""What a profile will cost, as far as that can be known before anything runs."""

from pipeline.config.profile import Profile
from pipeline.config.stages import EvaluateStage, RewardModelStage, RLStage, SampledData, SFTStage
from pipeline.core.figures import amount, size
from pipeline.ladder import rungs
from pipeline.models.memory import NUMBER_BYTES
from pipeline.models.shapes import parameters_of

OPTIMIZER_BYTES = 12
"""A trained weight in a trainer's checkpoint: itself and Adam's two moments in float32."""


def work_in_words(profile: Profile) -> list[str]:
    """Lines on steps, tokens and disk; upper bounds, since answers rarely have the longest length."""
    rl = profile.stages.of(RLStage)
    steps = sum(section.grpo.max_steps for section in rl.values())
    written = sum(int(section.grpo.describe()["most completion tokens"]) for section in rl.values())
    return [
        f"Work:    {steps:,} RL steps in {len(rl)} stages, at most {amount(written)} tokens written in them and "
        f"{amount(sampled_tokens(profile))} in sampling and evaluation.",
        f"Disk:    about {size(disk_bytes(profile))}.",
    ]


def sampled_tokens(profile: Profile) -> int:
    """Tokens that sampling stages, preference pairs and evaluation write at most. A set that takes all questions of a
    file or a data set counts for none, as their number is not known before it is read."""
    total = 0
    for section in profile.stages.of(SampledData).values():
        questions = sum(count or 0 for count in section.questions.values())
        total += questions * section.samples_per_question * section.sampling.max_tokens
    for section in profile.stages.of(RewardModelStage).values():
        answers = sum(scorer.prompts * scorer.samples_per_prompt for scorer in section.scorers.values())
        total += answers * section.sampling.max_tokens
    measured = len(rungs(*profile.stages.measured))
    for section in profile.stages.of(EvaluateStage).values():
        for chosen in section.sets.values():
            total += (chosen.questions or 0) * chosen.samples * measured * section.sampling.max_tokens
    return total


def disk_bytes(profile: Profile) -> float:
    """Checkpoints of all rungs and reward models, and the trainer's own of the stage that trains the largest model."""
    section = profile.stages.base_model
    teacher = parameters_of(section.teacher) or 0
    students = {name: parameters_of(source) or 0 for name, source in section.students.items()}
    kept = 0.0
    for rung in rungs(*profile.stages.measured):
        kept += students[rung.student] if rung.student else teacher
    kept += teacher * sum(len(stage.scorers) for stage in profile.stages.of(RewardModelStage).values())
    checkpoints = [s.grpo.keep_checkpoints for s in profile.stages.of(RLStage).values() if s.grpo.lora is None]
    checkpoints += [s.sft.keep_checkpoints for s in profile.stages.of(SFTStage).values() if s.sft.lora is None]
    trainer = max(checkpoints, default=0) * max([teacher, *students.values()]) * OPTIMIZER_BYTES
    return kept * NUMBER_BYTES[profile.dtype] + trainer
