"""Questions and data: where they come from, how they are cleaned and mixed, what models write."""
