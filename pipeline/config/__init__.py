"""A profile: its sections, and how it is read from YAML files and overrides."""
