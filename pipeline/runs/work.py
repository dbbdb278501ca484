"""How much each stage of a profile writes and trains, in tokens, before anything of it has run.

Lengths of answers are not known before: on average they are taken to be a third of the limit, as for a policy that has
learned to reason (DeepSeek-R1-Zero: about 9,000 tokens of 32,768).
"""

from dataclasses import dataclass

from pipeline.config.profile import Profile
from pipeline.config.stages import (
    DistillStage,
    EvaluateStage,
    RejectionSamplingStage,
    RewardModelStage,
    RLStage,
    SampledData,
    SFTStage,
    StudentRLStage,
)
from pipeline.ladder import STAGES, rungs

ANSWER_SHARE = 1 / 3
"""Mean length of an answer over its limit."""
UNKNOWN_QUESTIONS = 500
"""Questions of a set that takes all that its source has, whose number is not known before it is read."""


@dataclass(frozen=True)
class Work:
    written: float = 0.0
    """Tokens that the engine writes."""
    trained: float = 0.0
    """Tokens that go through forward and backward."""

    def seconds(self, written_s: float, trained_s: float) -> float:
        """With the seconds that a token takes in either."""
        return self.written * written_s + self.trained * trained_s


def work_of(profile: Profile, stage_id: str) -> Work:
    """Expected tokens of one stage; of none for stages that neither write nor train."""
    section = getattr(profile.stages, stage_id)
    match section:
        case StudentRLStage():
            tokens = min(_rl(profile, section).trained, _distilled(profile, STAGES[stage_id].learns_from))
            return Work(written=tokens, trained=tokens)
        case RLStage():
            return _rl(profile, section)
        case SampledData():
            return Work(written=_sampled(section))
        case SFTStage():
            students = len(profile.stages.base_model.students) if STAGES[stage_id].trains == "students" else 1
            tokens = students * section.sft.epochs * _rows(profile, stage_id)
            own_samples = isinstance(section, DistillStage) and section.on_policy is not None
            return Work(written=tokens if own_samples else 0.0, trained=tokens)
        case RewardModelStage():
            limit = section.sampling.max_tokens * ANSWER_SHARE
            answers = sum(scorer.prompts * scorer.samples_per_prompt for scorer in section.scorers.values())
            pairs = sum(scorer.prompts for scorer in section.scorers.values())
            return Work(written=answers * limit, trained=section.epochs * pairs * 2 * limit)
        case EvaluateStage():
            asked = sum((chosen.questions or UNKNOWN_QUESTIONS) * chosen.samples for chosen in section.sets.values())
            measured = len(rungs(*profile.stages.measured))
            return Work(written=measured * asked * section.sampling.max_tokens * ANSWER_SHARE)
    return Work()


def _rl(profile: Profile, section: RLStage) -> Work:
    settings = section.grpo
    tokens = float(settings.describe()["most completion tokens"]) * ANSWER_SHARE
    heldout = 0.0
    if section.heldout:
        points = settings.max_steps // section.heldout.every + 1
        limit = profile.stages.evaluate.sampling.max_tokens
        heldout = points * section.heldout.questions * section.heldout.samples * limit * ANSWER_SHARE
    return Work(written=tokens + heldout, trained=tokens)


def _sampled(section: SampledData) -> float:
    limit = section.sampling.max_tokens * ANSWER_SHARE
    questions = sum(count or section.max_rows or UNKNOWN_QUESTIONS for count in section.questions.values())
    general = section.general_rows if isinstance(section, RejectionSamplingStage) else 0
    return (questions * section.samples_per_question + general) * limit


def _rows(profile: Profile, stage_id: str) -> float:
    """Tokens of the rows that a stage of SFT trains on, once through."""
    source = getattr(profile.stages, STAGES[stage_id].learns_from)
    questions = sum(count or source.max_rows or UNKNOWN_QUESTIONS for count in source.questions.values())
    rows = min(source.max_rows or questions, questions * source.keep_per_question)
    rows += source.general_rows if isinstance(source, RejectionSamplingStage) else 0
    return rows * source.sampling.max_tokens * ANSWER_SHARE


def _distilled(profile: Profile, stage_id: str) -> float:
    """Tokens that distilling one student takes."""
    return getattr(profile.stages, stage_id).sft.epochs * _rows(profile, stage_id)
