"""What `make check` finds out before anything runs: the profile, its data, its models."""
