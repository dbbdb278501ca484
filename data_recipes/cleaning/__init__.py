"""What drops a row: unreadable answers, duplicates, overlap with held-out sets, filters."""
