"""Commands for a finished checkpoint: chat and lm-evaluation-harness."""
