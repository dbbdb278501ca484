"""Batches of rows laid end to end: the forward pass that RL, SFT and reward models train with."""
