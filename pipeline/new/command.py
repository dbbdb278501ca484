"""`make new NAME=mine`: asks what is missing, writes the profile, and says what it will cost and what comes next."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pipeline.checks.fit import in_words, memory_verdict, reloading, smallest_change
from pipeline.checks.packages import fetch_extras
from pipeline.checks.profile import check_processes, check_profile
from pipeline.config.loading import PROFILE_FOLDER, SHIPPED_PROFILES, load_profile
from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError
from pipeline.core.files import write_durably
from pipeline.new.cost import work_in_words
from pipeline.new.hardware import Hardware, hardware_here, parse_hardware
from pipeline.new.models import model_source, student_sources
from pipeline.new.profile import Wishes, nearest_profile, profile_text
from pipeline.new.questions import question_sources
from rewards import RewardError, load

Ask = Callable[[str], str]
Parsed = TypeVar("Parsed")

QUESTIONS = {
    "name": ("Name of the profile", ""),
    "base": ("Base model (a folder, a .gguf file, OWNER/NAME on the Hub, or 'pocket')", "pocket"),
    "students": ("Students, NAME=MODEL each (empty: a smaller copy of the base)", ""),
    "data": ("Questions to train on (a .jsonl, .csv or .parquet file, OWNER/NAME, or a task)", "pocket_arithmetic"),
    "exam": ("Questions to measure on (empty: some of those, left out of training)", ""),
    "reward": ("A reward of your own beside accuracy and format (FILE.py:NAME, or empty)", ""),
    "hardware": ("Hardware (cpu, 24, 8x80, 4xh100; empty: this machine)", ""),
}
"""What is asked in a terminal, and what is taken where nothing is given. Each is a variable of `make new`."""


def write_new_profile(given: Mapping[str, Any], ask: Ask | None = None) -> Path:
    """Writes `configs/NAME.yaml` and returns its path. `given` holds answers to `QUESTIONS`, and `like`. Others are
    asked with `ask` (default: in the terminal, if there is one), or take their defaults.

    Nothing is written unless the profile passes what `make check` checks. Raises ConfigError that names the variable.
    """
    ask = ask or (_in_terminal if sys.stdin.isatty() else None)

    def answer(key: str, parse: Callable[[str], Parsed]) -> Parsed:
        """What was given, else what is answered, asked again until it can be read."""
        question, default = QUESTIONS[key]
        if given.get(key) or ask is None:
            return parse(given.get(key) or default)
        while True:
            try:
                return parse(ask(f"{question}{f' [{default}]' if default else ''}: ").strip() or default)
            except ConfigError as error:
                print(error)

    path = answer("name", _path_of)
    base = answer("base", model_source)
    wishes = Wishes(
        name=path.stem,
        base=base,
        students=answer("students", lambda text: student_sources(text, base)),
        sources=answer("data", question_sources),
        exam=answer("exam", question_sources),
        reward=answer("reward", _reward),
        hardware=(hardware := answer("hardware", _hardware)),
        like=given.get("like") or nearest_profile(base, hardware),
    )
    with tempfile.TemporaryDirectory() as folder:
        wishes, profile, text = _fitted(wishes, Path(folder) / path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text)
    _print_what_follows(path, wishes, profile)
    return path


def _in_terminal(question: str) -> str:
    try:
        return input(question)
    except EOFError:  # Ctrl-D
        raise KeyboardInterrupt from None


def _path_of(name: str) -> Path:
    path = PROFILE_FOLDER / f"{name}.yaml"
    if not name or Path(name).name != name:
        raise ConfigError(f"NAME={name!r}: expected a name of letters, digits, '-', '_' and '.', such as mine.")
    for there in (path, SHIPPED_PROFILES / path.name):
        if there.exists():
            raise ConfigError(f"NAME={name}: there is a profile {there}. Take another name, or remove that file.")
    return path


def _hardware(text: str) -> Hardware:
    return parse_hardware(text) if text else hardware_here()


def _reward(use: str) -> str:
    try:
        if use:
            load(use)
    except RewardError as error:
        raise ConfigError(f"REWARD={use}: {error}") from error
    return use


def _fitted(wishes: Wishes, draft: Path) -> tuple[Wishes, Profile, str]:
    """(wishes with what makes them fit, profile, text) of a profile that passes the checks. `draft`: where it is
    written to be read."""

    def written(changes: Mapping[str, Any]) -> tuple[Wishes, Profile, str]:
        changed = replace(wishes, changes=dict(changes))
        text = profile_text(changed)
        draft.write_text(text, encoding="utf-8")
        return changed, load_profile(str(draft)).profile, text

    processes = max(1, wishes.hardware.gpus)
    try:
        _, profile, _ = written({})
        changed, profile, text = written(smallest_change(profile, reloading(str(draft)), processes) or {})
        fetch_extras(profile)
        check_profile(profile)
        check_processes(profile, processes)
    except ConfigError as error:
        reason = str(error).replace(str(draft), f"{wishes.name}.yaml")
        raise ConfigError(f"Nothing is written: the profile would not pass `make check`. {reason}") from error
    return changed, profile, text


def _print_what_follows(path: Path, wishes: Wishes, profile: Profile) -> None:
    processes = max(1, wishes.hardware.gpus)
    which = f"PROFILE={wishes.name}{f' PROCESSES={processes}' if processes > 1 else ''}"
    print(f"Written: {path}, which extends {wishes.like}.")
    if wishes.changes:
        print(f"It fits {wishes.hardware} by {in_words(wishes.changes)}.")
    print(memory_verdict(profile, reloading(str(path)), processes))
    for line in work_in_words(profile):
        print(line)
    print(f"Next:    make check PROFILE={wishes.name}      # all its figures; change the file, and look again")
    print(f"         make r1-zero {which}")
    print(f"         make all {which}")
