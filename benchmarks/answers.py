"""How often the verifier of mathematical answers is wrong, beside math-verify.

    python -m benchmarks.answers [FILE.jsonl …] [--wrong N] [--without-math-verify]

Without files: the corpus in `tests/rewards/grading/corpus/forms.py` and pairs made by rules. A file has one pair a
line: `{"answer": gold, "completion": text, "expect": 1 or 0}`; other keys become columns of the row (`verifier` is
`math` where it is not given). Prints, of each source, the share of wrong answers that were credited and of right ones
that were refused, ours and math-verify's (which is given the last answer that we find, in a box).
"""

import argparse
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.files import read_user_json_lines
from rewards import final_answer, judge_answers

FORMS = Path(__file__).resolve().parents[1] / "tests/rewards/grading/corpus/forms.py"
DRAWS = 22
"""Draws of each rule."""


@dataclass(frozen=True)
class Pair:
    """A gold answer, what a completion says, and whether that is right."""

    gold: str
    completion: str
    right: bool
    row: dict[str, Any] = field(default_factory=dict)


def in_block(gold: str, answer: str, right: bool) -> Pair:
    return Pair(gold, f"<think> Let me see. </think> <answer> {answer} </answer>", right)


def written() -> list[Pair]:
    """The pairs that were written by hand."""
    specification = importlib.util.spec_from_file_location("forms", FORMS)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return [
        in_block(gold, answer, right)
        for gold, *forms in module.FORMS
        for right, answers in zip((True, False), forms, strict=True)
        for answer in answers
    ]


def generated(draws: int = DRAWS) -> list[Pair]:
    """Pairs made by rules, always the same ones: a gold answer with equal forms and with near misses."""
    random = Random(20240501)
    return [
        in_block(gold, answer, right)
        for _ in range(draws)
        for gold, right_forms, wrong_forms in rules(random)
        for right, answers in ((True, right_forms), (False, wrong_forms))
        for answer in answers
    ]


def rules(random: Random) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """One draw of each rule: gold, forms that equal it, forms that do not."""
    a, b, c = random.randint(3, 30), random.randint(31, 60), random.randint(2, 9)
    n = random.randint(1000, 999_999)
    yield f"{n}", [f"{n:,}", f"{n}.0", f"{2 * n}/2"], [f"{n + 1}", f"-{n}", f"{n}/10"]
    half = Fraction(2 * a + 1, 2)
    yield f"\\frac{{{half.numerator}}}{{2}}", [f"{a}\\frac12", f"{a}.5", f"{a} 1/2"], [f"{a}1/2", f"{a + 1}.5", f"{a}"]
    root = f"{c}\\sqrt{{{a * 4 + 3}}}"
    yield root, [f"\\sqrt{{{c * c * (a * 4 + 3)}}}", f"{c}({a * 4 + 3})^{{1/2}}"], [f"\\sqrt{{{c * (a * 4 + 3)}}}"]
    yield f"x^2+{a + b}x+{a * b}", [f"(x+{a})(x+{b})", f"x(x+{a + b})+{a * b}"], [f"(x-{a})(x-{b})", f"-{a}, -{b}"]
    yield (
        f"({a}, {b})",
        [f"\\left({a},{b}\\right)", f"x={a}, y={b}"],
        [f"({b}, {a})", f"\\{{{a}, {b}\\}}", f"[{a}, {b}]"],
    )
    yield f"[{a}, {b})", [f"{a} \\le x < {b}", f"\\{{x \\mid {a} \\le x < {b}\\}}"], [f"({a}, {b}]", f"{a}, {b}"]
    yield f"{a}, {b}", [f"{b}, {a}", f"x={a} \\text{{ or }} x={b}"], [f"{a}", f"{a}, {b + 1}", f"{a}, {b}, {c + 60}"]
    yield f"\\pm {a}", [f"{a}, -{a}", f"-{a} \\text{{ or }} {a}"], [f"{a}", f"-{a}", f"\\pm {a + 1}"]
    yield f"{a}x+{b}y={c}", [f"{2 * a}x+{2 * b}y={2 * c}", f"{b}y={c}-{a}x"], [f"{c}", f"{a}x-{b}y={c}"]
    yield f"{a}+{b}i", [f"{b}i+{a}", f"\\frac{{{a * a + b * b}}}{{{a}-{b}i}}"], [f"{a}-{b}i", f"{b}+{a}i"]
    yield f"{a}\\%", [f"{Fraction(a, 100)}", f"{a} percent"], [f"{a + 1}\\%", f"{Fraction(a, 1000)}"]
    yield f"{a} \\text{{ m}}", [f"{a}", f"{100 * a} cm", f"{a} meters"], [f"{a} cm", f"{a} \\text{{ m}}^2", f"{a} s"]
    yield f"2^{{{3 * n}}}-{a}", [f"8^{{{n}}}-{a}"] if n < 5000 else [f"2^{{{3 * n}}}-{a}"], [f"2^{{{3 * n}}}"]
    yield f"|x-{a}|", [f"|{a}-x|", f"\\sqrt{{(x-{a})^2}}"], [f"x-{a}", f"{a}-x"]
    yield f"{a}:{b}", [f"{c * a}:{c * b}"], [f"{b}:{a}", f"{a}:{b + 1}"]
    yield f"0.\\overline{{{a + 10}}}", [f"\\frac{{{a + 10}}}{{99}}"], [f"0.{a + 10}", f"\\frac{{{a + 11}}}{{99}}"]
    yield f"{a}", [f"\\log_2 2^{{{a}}}", f"|-{a}|", f"{a} \\text{{ coins}}"], [f"{a}!", f"{a} or {b}", f"\\sqrt{{{a}}}"]


def from_file(path: Path) -> list[Pair]:
    """The pairs of a file. Raises ConfigError naming the line that is none."""
    pairs = []
    for number, row in read_user_json_lines(path):
        missing = {"answer", "completion", "expect"} - set(row)
        if missing:
            raise ConfigError(f"{path}, line {number}: lacks {', '.join(sorted(missing))}; it has {', '.join(row)}")
        others = {key: value for key, value in row.items() if key not in ("completion", "expect")}
        pairs.append(Pair(row["answer"], row["completion"], bool(row["expect"]), others))
    return pairs


def ours(pairs: Sequence[Pair]) -> list[bool]:
    rows = [{"verifier": "math", **pair.row, "answer": pair.gold} for pair in pairs]
    return [verdict.score == 1 for verdict in judge_answers([pair.completion for pair in pairs], rows)]


def by_math_verify(pairs: Sequence[Pair]) -> list[bool]:
    from math_verify import parse, verify

    def right(pair: Pair) -> bool:
        answer = final_answer(pair.completion) or ""
        try:
            return bool(verify(parse(f"${pair.gold}$"), parse(f"\\boxed{{{answer}}}")))
        except Exception:  # whatever it fails on it has not credited
            return False

    return [right(pair) for pair in pairs]


def rates(pairs: Sequence[Pair], credited: Sequence[bool]) -> tuple[float, float]:
    """The shares of wrong answers that were credited, and of right ones that were refused."""
    wrong = [given for pair, given in zip(pairs, credited, strict=True) if not pair.right]
    right = [given for pair, given in zip(pairs, credited, strict=True) if pair.right]
    return sum(wrong) / max(1, len(wrong)), 1 - sum(right) / max(1, len(right))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("files", nargs="*", type=Path)
    arguments.add_argument("--wrong", type=int, default=20, help="wrong verdicts of ours that are printed")
    arguments.add_argument("--without-math-verify", action="store_true")
    options = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    sources = {path.name: from_file(path) for path in options.files} or {"written": written(), "by rules": generated()}
    print(f"{'source':24}{'pairs':>8}  {'verifier':12}{'false credit':>14}{'false refusal':>15}")
    for name, pairs in sources.items():
        verdicts = {"ours": ours(pairs)}
        if not options.without_math_verify:
            verdicts["math-verify"] = by_math_verify(pairs)
        for verifier, credited in verdicts.items():
            credit, refusal = rates(pairs, credited)
            print(f"{name:24}{len(pairs):8}  {verifier:12}{credit:14.2%}{refusal:15.2%}")
        off = [pair for pair, given in zip(pairs, verdicts["ours"], strict=True) if given is not pair.right]
        for pair in off[: options.wrong]:
            print(f"    {'refused' if pair.right else 'credited'}: {pair.gold!r} <= {final_answer(pair.completion)!r}")


if __name__ == "__main__":
    main()
