"""The built-in rewards, which a profile names by their short names."""
