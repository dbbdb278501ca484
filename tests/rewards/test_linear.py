"""Whatever a model writes, reading it takes work that grows with its length: ten times the text, no more than fifteen
times the work. Every pattern of the code that reads completions is found in the source and searched step by step.

`python -m benchmarks.linear` measures the same in CPU seconds, up to a million characters.
"""

import ast
import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from re import _parser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.spans import Between, without
from tests.rewards.regex_steps import Counted, attacks, repeats

ROOT = Path(__file__).resolve().parents[2]
READ_COMPLETIONS = [
    *(ROOT / "rewards/builtin").glob("*.py"),
    ROOT / "rewards/response.py",
    *(
        ROOT / f"rewards/grading/{name}.py"
        for name in (
            "answers",
            "choices",
            "code",
            "gym",
            "gym_scorers",
            "judging",
            "marks",
            "phrases",
            "programs",
            "verifiers",
        )
    ),
    *(ROOT / "data_recipes/written").glob("*.py"),
    ROOT / "pipeline/steps/evaluation.py",
]
"""The other files of `rewards/grading` read one answer, of at most `MAX_ANSWER` or `MAX_WORDY` characters."""
CUT_TO_2000 = "DELIMITED"
"""A formula between marks: it is looked for in the last 2,000 characters, and in the 500 behind a phrase."""
FEW, MANY, MOST_TIMES = 6, 60, 15
ANCHORED = {"match", "fullmatch"}
SEARCHES = {"search", "split", "sub", "subn", "findall", "finditer"}


@dataclass(frozen=True)
class Use:
    """A pattern, and whether it is only tried at the start of a text."""

    pattern: re.Pattern[str]
    anchored: bool


def uses_of(path: Path) -> dict[str, Use]:
    """Every pattern of a file: those that it keeps by name, and those written where they are used."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return {f"{path.relative_to(ROOT)}: {use.pattern.pattern[:60]}": use for use in [*kept(module), *inline(path)]}


def kept(module) -> list[Use]:
    found, values = [], list(vars(module).items())
    while values:
        name, value = values.pop()
        if name == CUT_TO_2000:
            continue
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
            found.append(Use(value, CALLED.get(name, {"search"}) <= ANCHORED))
        elif isinstance(value, dict):
            values += [(name, one) for one in value.values()]
        elif isinstance(value, tuple | list):
            values += [(name, one) for one in value]
        elif isinstance(value, Between):
            found += [Use(value.opening, False), Use(value.closing, False)]
    return found


def inline(path: Path) -> list[Use]:
    found = []
    for call in calls(path):
        if called(call) == "re" and call.func.attr in ANCHORED | SEARCHES and isinstance(call.args[0], ast.Constant):
            flags = [
                getattr(re, one.attr) for one in ast.walk(call) if isinstance(one, ast.Attribute) and one.attr.isupper()
            ]
            found.append(Use(re.compile(call.args[0].value, sum(flags)), call.func.attr in ANCHORED))
    return found


def calls(path: Path) -> list[ast.Call]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]


def called(call: ast.Call) -> str | None:
    value = call.func.value.value if isinstance(call.func.value, ast.Subscript) else call.func.value
    return value.id if isinstance(value, ast.Name) else None


CALLED: dict[str, set[str]] = {}
"""By the name of a pattern, what is done with it anywhere."""
for path in READ_COMPLETIONS:
    for call in calls(path):
        if call.func.attr in ANCHORED | SEARCHES and called(call) not in (None, "re"):
            CALLED.setdefault(called(call), set()).add(call.func.attr)
USES = {
    name: use
    for path in READ_COMPLETIONS
    for name, use in uses_of(path).items()
    if repeats(_parser.parse(use.pattern.pattern, use.pattern.flags))  # a search for words alone has no choice
}


@pytest.fixture(autouse=True)
def deep():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_search_takes_steps_linear_in_the_text(use):
    counted = Counted(use.pattern)
    steps = counted.match_once if use.anchored else counted.search_all
    for before, repeated, end in attacks(counted.tree, use.pattern.flags):
        few, many = (steps(before + copies * repeated + end) for copies in (FEW, MANY))
        assert many <= MOST_TIMES * few, (before, repeated, end)


FRAGMENTS = st.sampled_from(
    ["```", "`", "\\[", "\\]", "\\(", "\\)", "\\begin{a}", "\\end{a}", "\\end{b}", "\n", "a", " "]
)
WITHIN = {
    "fence": (Between(re.compile("```"), re.compile("```"), 6, open_end=True), r"```.{0,6}?(?:```|\Z)"),
    "display": (Between(re.compile(r"\\\["), re.compile(r"\\\]"), 6, shortest=1), r"\\\[.{1,6}?\\\]"),
    "line": (Between(re.compile(r"\\\("), re.compile(r"\\\)"), 6, shortest=1, one_line=True), r"\\\([^\n]{1,6}?\\\)"),
    "named": (
        Between(re.compile(r"\\begin\{([ab])\}"), re.compile(r"\\end\{([ab])\}"), 6),
        r"\\begin\{([ab])\}.{0,6}?\\end\{\1\}",
    ),
}


@pytest.mark.parametrize(("between", "pattern"), WITHIN.values(), ids=WITHIN)
@settings(max_examples=200, deadline=None)
@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_a_span_is_what_a_search_for_the_nearest_closing_mark_finds(between, pattern, text):
    assert without(text, between) == re.sub(pattern, " ", text, flags=re.DOTALL)
