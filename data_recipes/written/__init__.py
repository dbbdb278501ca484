"""Data that models write: rewritten answers and preferences, and the client for them."""
