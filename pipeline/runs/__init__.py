"""Runs on disk: their folders, what each stage depends on, running, verifying and explaining them."""
