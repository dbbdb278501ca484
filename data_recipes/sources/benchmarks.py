"""The evaluation sets of the field by name, from the Hub or from a local file with the same columns.

source: {use: "benchmark:aime_2024"}
source: {use: "benchmark:gpqa_diamond", args: {path: data/gpqa_diamond.csv}}
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.question import Question
from data_recipes.sources.hub import HubArgs, read_hub
from data_recipes.sources.mapping import RowMapping, to_questions
from data_recipes.sources.tables import Record, read_file
from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict


class BenchmarkArgs(Strict):
    path: str | None = None
    """A local .jsonl, .csv or .parquet file with the columns of the original; None fetches it from the Hub."""
    revision: str | None = None
    """A commit of the Hub's data set; without one the newest is taken."""


@dataclass(frozen=True)
class Benchmark:
    hub: str
    args: HubArgs
    code: bool = False
    """Whether the columns are HumanEval's, whose answers are programs."""


_PROBLEM = {"question": "problem", "answer": "answer", "solution": "solution"}
_WRONG = ["Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]

BENCHMARKS = {
    "aime_2024": Benchmark(
        "HuggingFaceH4/aime_2024", HubArgs(columns={"id": "id", **_PROBLEM}, domain="math")
    ),
    "aime_2025": Benchmark(
        "math-ai/aime25", HubArgs(split="test", columns={"question": "problem", "answer": "answer"}, domain="math"),
    ),
    "math_500": Benchmark(
        "HuggingFaceH4/MATH-500", HubArgs(split="test", columns={"id": "unique_id", **_PROBLEM}, domain="math"),
    ),
    "gsm8k": Benchmark(
        "openai/gsm8k",
        HubArgs(
            config="main", split="test", answer_after="####", domain="math",
            columns={"question": "question", "answer": "answer", "solution": "answer"},
        ),
    ),
    "gpqa_diamond": Benchmark(
        "Idavidrein/gpqa",
        HubArgs(
            config="gpqa_diamond", columns={"question": "Question", "answer": "Correct Answer"}, options=_WRONG,
            domain="stem",
        ),
    ),
    "humaneval": Benchmark(
        "openai/openai_humaneval",
        HubArgs(
            split="test", verifier="code", domain="code",
            columns={"id": "task_id", "question": "prompt", "tests": "test", "entry_point": "entry_point",
                     "solution": "canonical_solution"},
            ask="Complete this Python function. Give the whole of it, with its imports, in one block of code.\n\n"
            "```python\n{question}\n```",
        ),
        code=True,
    ),
}  # fmt: skip


def find_benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise ConfigError(f"No benchmark '{name}'. There are: {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]


def benchmark_questions(
    name: str, args: BenchmarkArgs, first: int | None = None, domain: str | None = None
) -> list[Question]:
    """The benchmark's questions, at most `first` of them from the Hub.

    Raises ConfigError for an unknown name, a file that lacks a column, or a data set that cannot be had.
    """
    benchmark = find_benchmark(name)
    hub = benchmark.args.model_copy(update={"revision": args.revision})
    records = read_file(Path(args.path)) if args.path else read_hub(benchmark.hub, hub, first)
    mapping = RowMapping.model_validate(benchmark.args.model_dump(exclude={"config", "split", "revision"}))
    if benchmark.code:
        records = (_with_a_test(record) for record in records)
    return to_questions(records, name, mapping, domain, most_left_out=0.0)


def _with_a_test(record: Record) -> Record:
    """HumanEval's `test` column defines `check(candidate)`; calling it on the function is one assertion."""
    where, row = record
    if isinstance(row, dict) and {"test", "entry_point"} <= set(row):
        calls = f"{row['test']}\n\ncheck({row['entry_point']})\n"
        row = {**row, "test": [{"assert": calls}]}
    return where, row


def described(use: str, args: dict[str, Any]) -> str:
    """A source in words, for a table."""
    scheme, _, name = use.partition(":")
    if scheme == "benchmark" and name in BENCHMARKS:
        return f"{use} ({args.get('path') or BENCHMARKS[name].hub})"
    return use
