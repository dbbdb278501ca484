"""Base models: their sources, shapes, chat formats and memory, and how they are changed."""
