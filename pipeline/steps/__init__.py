"""What stages share: an RL or SFT run, sampling, questions, evaluation, trackers."""
