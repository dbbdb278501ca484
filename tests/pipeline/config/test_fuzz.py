"""Mutated profiles: each is accepted and works in `check`, or is refused with an error that names the key.

CONFIG_FUZZ_EXAMPLES=2000 .venv/bin/python -m pytest tests/pipeline/config/test_fuzz.py    # the long form
"""

import contextlib
import copy
import io
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.cli import main
from pipeline.config.loading import PROFILE_FOLDER
from pipeline.config.profile import Profile
from pipeline.config.yaml_text import ProfileLoader
from pipeline.core.strict import sections_in

EXAMPLES = int(os.environ.get("CONFIG_FUZZ_EXAMPLES", "100"))


def unshared(value: Any) -> Any:
    """A copy in which what YAML's anchors share is there once a place, so that a change cannot make it hold itself."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    return [unshared(item) for item in value] if isinstance(value, list) else value


BASES = {
    name: unshared(yaml.load((PROFILE_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), ProfileLoader))
    for name in ("pocket", "smoke")
}

Path_ = tuple[Any, ...]


def paths(value: Any, prefix: Path_ = ()) -> list[Path_]:
    """Every place in a document, containers too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((*prefix, key), *paths(item, (*prefix, key)))]


def schema_paths(model: type[BaseModel], prefix: Path_ = ()) -> list[Path_]:
    """Every key that a profile could have, whether a file sets it or not."""
    found = []
    for name, field in model.model_fields.items():
        found.append((*prefix, name))
        for section in sections_in(field.annotation):
            found += schema_paths(section, (*prefix, name))
    return found


SCHEMA = schema_paths(Profile)
SCHEMA_NAMES = {path[-1] for path in SCHEMA}


def at(document: Any, path: Path_) -> Any:
    for key in path:
        document = document[key]
    return document


def put(document: Any, path: Path_, value: Any) -> None:
    """Sets a value, making mappings on the way; gives up where a list or a scalar is in the way."""
    *parents, last = path
    for key in parents:
        if isinstance(document, dict):
            document = document.setdefault(key, {})
        elif isinstance(document, list) and isinstance(key, int) and key < len(document):
            document = document[key]
    if isinstance(document, dict) or (isinstance(document, list) and isinstance(last, int) and last < len(document)):
        document[last] = value


numbers = st.one_of(
    st.integers(-(10**30), 10**30),
    st.sampled_from([0, 1, -1, 2, 3, 7, 10**6, 2**31, 2**63, -(2**63), 10**400, 0.0, -0.0, 1e-320, 1e308, 0.5, 1.5]),
    st.floats(),
)
ODD_TEXTS = (
    *("", " ", "null", "yes", "1e-6", "é", "中文", "\u202e", "\x85", "a" * 3000, "../..", "/", "~", "%s", "{question}"),
    *("[bold]", "[/]", "jsonl:", "jsonl:/", "jsonl:.", "folder:", "folder:.", "folder:\x00", "gguf:.", "hub:"),
    *(
        "hub:..",
        "hub:a/b/c",
        "pocket:",
        "pocket:../x",
        "pocket:/",
        "stage:",
        "stage:nobody",
        "os:system",
        "os.path:join",
    ),
    *(
        "nothing.py:f",
        "rewards.builtin.accuracy:Accuracy",
        "reasoning_gym:",
        "reasoning_gym:nothing",
        "http://",
        "accuracy",
    ),
    *("format", "judge", "endpoint", "vllm-server", "transformers", "r1", "cuda", "chat"),
)
KINDS = ("delete", "rename", "number", "swap", "nest", *("set", "like", "odd", "schema") * 3)
SIGNS = (*":{}[]#&*!|>'\"%@`,?-\t\x00\x07\ufeff", ": ", "!!python/object:os.system ")
texts = st.one_of(st.text(max_size=20), st.sampled_from(ODD_TEXTS))
scalars = st.one_of(numbers, texts, st.booleans(), st.none())
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@st.composite
def mutations(draw, document: Any) -> list[Path_]:
    """Changes `document` in one way and says where."""
    kind = draw(st.sampled_from(KINDS))
    path = draw(st.sampled_from(SCHEMA if kind == "schema" else paths(document)))
    event(kind)
    match kind:
        case "schema" | "set":
            put(document, path, draw(junk))
        case "number":
            put(document, path, draw(numbers))
        case "like":  # of the type that stands there, so that more of it gets past the schema
            there = at(document, path)
            put(document, path, draw(texts if isinstance(there, str) else numbers if type(there) is not dict else junk))
        case "odd":  # texts that name files, models, recipes and rewards, which only `check` looks up
            path = draw(st.sampled_from([p for p in paths(document) if isinstance(at(document, p), str)] or [path]))
            put(document, path, draw(st.sampled_from(ODD_TEXTS)))
        case "nest":
            put(document, path, {draw(texts): at(document, path)})
        case "delete":
            _delete(document, path)
        case "rename" if isinstance(path[-1], str):
            renamed = draw(st.one_of(texts, st.just(path[-1] + "s"), st.just(path[-1].upper())))
            put(document, (*path[:-1], renamed), _delete(document, path))
            return [path, (*path[:-1], renamed)]
        case "swap":
            other = draw(st.sampled_from(paths(document)))
            shorter = min(len(path), len(other))
            if path[:shorter] != other[:shorter]:  # neither lies in the other
                ours, theirs = at(document, path), at(document, other)
                put(document, path, theirs)
                put(document, other, ours)
                return [path, other]
    return [path]


def _delete(document: Any, path: Path_) -> Any:
    return at(document, path[:-1]).pop(path[-1])


@st.composite
def mutated(draw) -> tuple[str, list[Path_]]:
    """(the text of a profile, where it was changed)."""
    document = unshared(BASES[draw(st.sampled_from(sorted(BASES)))])
    changes: list[Path_] = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        if paths(document):
            changes += draw(mutations(document))
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False), changes


@st.composite
def damaged_text(draw) -> str:
    """A profile whose text was cut, doubled or sprinkled with characters that mean something in YAML."""
    text = (PROFILE_FOLDER / f"{draw(st.sampled_from(sorted(BASES)))}.yaml").read_text(encoding="utf-8")
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["double", "cut", "insert", "drop", "indent"])):
            case "double":
                lines.insert(number, lines[number])
            case "cut":
                lines[number] = lines[number][: draw(st.integers(0, len(lines[number])))]
            case "insert":
                place = draw(st.integers(0, len(lines[number])))
                sign = draw(st.sampled_from(SIGNS))
                lines[number] = lines[number][:place] + sign + lines[number][place:]
            case "drop":
                del lines[number]
            case "indent":
                lines[number] = " " * draw(st.integers(1, 5)) + lines[number]
        lines = lines or [""]
    return "\n".join(lines)


def check(text: str, folder: Path) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `check` on a profile with this text."""
    path = folder / "fuzzed.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["check", "--profile", str(path)])
    return code, out.getvalue(), err.getvalue()


def names_of(text: str, changes: list[Path_]) -> set[str]:
    """What an error about these changes may name: each changed key, the two above it and whatever lies below it."""
    document = yaml.safe_load(text)
    if ("extends",) in changes:  # then every key that the parent gave
        return {key for key in SCHEMA_NAMES if len(key) > 1}
    names = {str(key) for path in changes for key in path[-3:] if path == ("stages",) or key != "stages"}
    for path in changes:
        with contextlib.suppress(KeyError, IndexError, TypeError, RecursionError):
            names |= {str(key) for below in paths(at(document, path)) for key in below}
    return {name for name in names if len(name) > 1}


def assert_told(code: int, out: str, err: str) -> None:
    assert code in (0, 2), err
    assert "Traceback" not in err
    if code == 0:
        assert "rewards, tried on" in out
    else:
        assert err.startswith("error: ") and len(err) > 20, err
        assert not re.search(r"\b(KeyError|TypeError|AttributeError|ValidationError)\b", err), err


FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, database=None,
    derandomize="CONFIG_FUZZ_EXAMPLES" not in os.environ,  # the short form is the same from run to run
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip


@FUZZ
@given(case=mutated())
def test_a_mutated_profile_works_or_is_refused_by_name(tmp_path, case):
    text, changes = case
    code, out, err = check(text, tmp_path)
    event(f"exit {code}")
    assert_told(code, out, err)
    if code == 2:
        assert any(name in err for name in names_of(text, changes)), err


@settings(FUZZ, max_examples=max(1, EXAMPLES // 4))
@given(text=damaged_text())
def test_damaged_text_works_or_is_refused_by_place_or_name(tmp_path, text):
    code, out, err = check(text, tmp_path)
    event(f"exit {code}")
    assert_told(code, out, err)
    if code == 2:
        assert re.search(r"line \d+|'[\w.-]+'|[a-z_]+\.[a-z_]+|fuzzed\.yaml", err), err


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    document = copy.deepcopy(BASES["pocket"])
    document["stages"]["r1_zero"]["grpo"]["learning_rate"] = value
    code, _, err = check(yaml.safe_dump(document), tmp_path)
    assert code == 2 and "learning_rate" in err
