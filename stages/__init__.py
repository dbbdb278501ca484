"""The stages of the ladder. Nothing imports them: the runner loads each by its name."""
