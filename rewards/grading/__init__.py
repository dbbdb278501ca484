"""Judging answers: finding and comparing them, verifiers, verdicts, worker processes."""
