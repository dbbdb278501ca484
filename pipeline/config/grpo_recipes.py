"""Published variants of GRPO: what each sets where a profile does not."""

from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    "grpo": {},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0},  # arXiv 2503.20783
    "dapo": {  # arXiv 2503.14476
        "loss_type": "dapo",
        "epsilon_high": 0.28,
        "dynamic_sampling": 2,
        "overlong_share": 0.2,
        "beta": 0.0,
    },
    "gspo": {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4, "beta": 0.0},  # 2507.18071
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0, "beta": 0.0},  # arXiv 2506.13585
}
"""What each recipe sets where a profile does not: the figures of its paper. DAPO shapes the last 4,096 of 20,480
tokens, a fifth, and samples until enough groups have a spread; here that is bounded."""
