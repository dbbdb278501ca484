"""Checkpoints for use elsewhere: GGUF files, Modelfiles, folders for the Hub, model cards."""
