"""GRPO: advantages, packing, rollouts and the trainer that puts them together."""
