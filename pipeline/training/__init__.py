"""Trainers: SFT, reward models and GRPO, with their checkpoints, records and alarms."""
