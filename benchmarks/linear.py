"""How the time of reading a completion grows with its length: `python -m benchmarks.linear`.

Texts that a looping or hostile policy could write, of 10,000, 100,000 and 1,000,000 characters, go through the
language, format, repetition and answer code. Ten times the text may cost fifteen times the CPU seconds; the exit code
is 1 where one costs more. Times below `NOISE_S` are taken for that.
"""

import sys
import time
from collections.abc import Callable

from pipeline.core.tokens import without_end
from rewards import judge_answer, load
from rewards.grading.programs import last_program

SIZES, MOST_TIMES, NOISE_S = (10_000, 100_000, 1_000_000), 15.0, 0.05
PIECES = (
    "a", "1", "~", "`", "$", "{", "}", "(", "*", "_", "#", "-", ".", ",", "的", "é", "\\", " ", "\n",
    "~~~", "a.", "a\n", "1,", "1 ", "$a", "`a ", "a(", "x1_", "\\(", "\\[", "\\[ ", "\\,",
    "\\text ", "\\text{", "\\begin{a}", "^ ", "```", "```\n", "\\boxed{", "\\boxed{1}", "<think>",
    "</think>", "<answer>", "<answer>1</answer>", "<think></think>\\boxed{1}", "answer ",
    "answer is ", "The answer is 1.\n", "Answer:\n", "#### ", "####  1\n", "选", "选 ", "答案 ",
    "Step 1:", " is", ", as ", "(A) or ", ". ", "https://",
)  # fmt: skip
ENDS = ("`", " </think> <answer> 14 </answer>")


class Ends:
    """As much of a tokenizer as `without_end` asks for."""

    eos_token = "a"


READERS: dict[str, Callable[[str], object]] = {
    "language": lambda text: load("language", language="en")(prompts=["q"], completions=[f"<think>{text}</think>a"]),
    "format": lambda text: load("format")(prompts=["q"], completions=[text]),
    "tag_count": lambda text: load("tag_count")(prompts=["q"], completions=[text]),
    "reasoning_steps": lambda text: load("reasoning_steps")(prompts=["q"], completions=[text]),
    "repetition": lambda text: load("repetition")(prompts=["q"], completions=[text], completion_ids=[list(text)]),
    "exact": lambda text: judge_answer(text, {"verifier": "exact", "answer": "14"}),
    "choice": lambda text: judge_answer(text, {"verifier": "choice", "answer": "B", "choices": ["1", "14"]}),
    "countdown": lambda text: judge_answer(text, {"verifier": "countdown", "numbers": [1, 4], "target": 5}),
    "math": lambda text: judge_answer(text, {"verifier": "math", "answer": "14"}),
    "code": last_program,
    "end of text": lambda text: without_end(Ends, text),
}


def main() -> int:
    worst: dict[str, tuple[float, str]] = {}
    for piece in PIECES:
        for end in ENDS:
            for name, read in READERS.items():
                before = None
                for size in SIZES:
                    text = piece * (size // len(piece)) + end
                    began = time.process_time()
                    read(text)
                    spent = time.process_time() - began
                    times = max(spent, NOISE_S) / max(before or 0.0, NOISE_S)
                    if before is not None and spent > NOISE_S:
                        worst[name] = max(
                            worst.get(name, (0.0, "")), (times, f"{piece!r} … {end!r}, {size}: {spent:.2f} s")
                        )
                    before = spent
                    if spent > 20:
                        break
    for name in READERS:
        times, where = worst.get(name, (0.0, "every text in no time"))
        print(f"{name:16} ten times the text costs at most {times:5.1f} times the time ({where})")
    return int(any(times > MOST_TIMES for times, _ in worst.values()))


if __name__ == "__main__":
    sys.exit(main())
