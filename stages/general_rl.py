"""R1: GRPO from Dev3 on reasoning rows (rules) and general rows (reward models, which count only late in the run).

    make general-rl PROFILE=pocket

In the profile a reward names its scorer as `model: stage:helpful` or `model: stage:harmless`.
"""

from pathlib import Path

from pipeline.steps.context import StageContext, StageResult
from pipeline.steps.rl import climb
from rewards import RewardSpec

SCORER = "stage:"


def run(ctx: StageContext) -> StageResult:
    scorers = ctx.inputs["reward_model"].folder
    rewards = [with_scorer(spec, scorers) for spec in ctx.config.rewards]
    return climb(ctx, start=ctx.inputs["sft"].checkpoint, template="chat", rewards=rewards)


def with_scorer(spec: RewardSpec, scorers: Path) -> RewardSpec:
    """The reward with `stage:NAME` replaced by the folder of the scorer that the reward_model stage trained."""
    model = spec.args.get("model")
    if not isinstance(model, str) or not model.startswith(SCORER):
        return spec
    return spec.model_copy(update={"args": {**spec.args, "model": str(scorers / model.removeprefix(SCORER))}})
