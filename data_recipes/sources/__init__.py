"""Where questions come from: the catalogue, files, the Hub, benchmarks, puzzles."""
