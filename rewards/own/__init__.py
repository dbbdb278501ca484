"""The user's own rewards and verifiers: running them, and trying them before training."""
