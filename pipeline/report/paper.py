"""The paper's own figures, from DeepSeek-R1 (arXiv 2501.12948 v2, and v1 where marked), in per cent.

They are of models of 1.5 to 671 billion parameters on public benchmarks: compare shapes, not values.
"""

STAGE_BENCHMARKS = ("AIME 2024", "MATH-500", "LiveCodeBench", "IF-Eval", "ArenaHard")
"""Benchmarks of Table 3 of which PAPER.md gives every stage, as pass@1 (ArenaHard: win rate)."""

STAGES = {
    "R1-Zero": (77.9, 95.9, 50.0, 46.6, 53.6),
    "Dev1": (59.0, 94.2, 57.5, 71.7, 77.0),
    "Dev2": (74.0, 95.9, 63.5, 72.0, 73.2),
    "Dev3": (78.1, 95.4, 64.6, 78.1, 75.6),
    "R1": (79.8, 97.3, 65.9, 83.3, 92.3),
}

BASE_AIME = 15.6
"""V3-Base on AIME 2024, pass@1 (v1, Figure 2)."""
AIME = {"base": ("V3-Base", BASE_AIME)} | {
    rung: (rung if rung.startswith("R1") else f"R1-{rung}", figures[0]) for rung, figures in STAGES.items()
}
"""Rung of the teacher -> (what the paper calls its model, AIME 2024 pass@1)."""

STUDENT_BENCHMARKS = ("AIME pass@1", "AIME cons@64", "MATH-500 pass@1")
STUDENTS = {
    "R1-Distill-Qwen-1.5B": (28.9, 52.7, 83.9),
    "R1-Distill-Qwen-7B": (55.5, 83.3, 92.8),
    "R1-Distill-Qwen-14B": (69.7, 80.0, 93.9),
    "R1-Distill-Qwen-32B": (72.6, 83.3, 94.3),
    "R1-Distill-Llama-8B": (50.4, 80.0, 89.1),
    "R1-Distill-Llama-70B": (70.0, 86.7, 94.5),
}
"""Table 15."""

STUDENT_AIME = {"distilled": ("R1-Distill Qwen-32B", 72.6), "RL": ("Qwen2.5 32B-Zero", 47.0)}
"""Rung of the student that distillation is compared with RL on -> (what the paper calls it, AIME 2024 pass@1): Tables
15 and 16."""
