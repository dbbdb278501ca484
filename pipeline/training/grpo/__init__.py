"""GRPO: rollouts, advantages, the loss, and the trainer that puts them together."""
