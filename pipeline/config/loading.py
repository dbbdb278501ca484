"""From a YAML file, its parents and the command line's overrides to a checked profile."""

import copy
import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.profile import Profile
from pipeline.config.yaml_text import REPLACE, ProfileLoader
from pipeline.core.errors import ConfigError
from pipeline.core.kinds import OTHER_KIND, OneOfKinds
from pipeline.core.redaction import refuse_secrets
from pipeline.core.strict import (
    Replacing,
    Say,
    emptied,
    give_way,
    inside,
    lay_over,
    merge,
    respelled,
    sections_in,
    take_away,
)

PROFILE_FOLDER = Path("configs")
"""Where profiles given by name are looked for first."""

SHIPPED_PROFILES = Path(__file__).parents[2] / "configs"
"""Where they are looked for then: those that came with this code."""


@dataclass(frozen=True)
class LoadedProfile:
    profile: Profile
    path: Path
    origins: dict[str, str]
    """Dotted key -> the file or override that set it last."""
    notes: list[str]
    """What a more specific level replaced without naming it, such as a recipe the keys of a parent, and what it left
    though it reads otherwise."""


def profile_path(name: str) -> Path:
    """The file of a profile given by name (`pocket`) or by path (`my/profile.yaml`)."""
    folders = (PROFILE_FOLDER, SHIPPED_PROFILES)
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILE_FOLDER / f"{name}.yaml"
    if path.parent == PROFILE_FOLDER and not _is_file(path) and _is_file(SHIPPED_PROFILES / path.name):
        return SHIPPED_PROFILES / path.name
    if not _is_file(path):
        known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
        raise ConfigError(
            f"No profile '{name}': there is no file {path}. Profiles here: {', '.join(known) or 'none'}. "
            "Give one of these names, or the path of a YAML file."
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for one, or a folder that may not be entered
        return False


def load_profile(name: str, overrides: Sequence[str] = (), seed: int | None = None) -> LoadedProfile:
    """Reads, merges and checks a profile.

    `overrides` are `dotted.key=value` strings, values read as YAML; `seed` replaces the profile's.
    Raises ConfigError naming the file, the key, the value and the fix.
    """
    path = profile_path(name)
    origins: dict[str, str] = {}
    notes: list[str] = []
    data = _read_with_parents(path, origins, notes, ())
    data = _apply_overrides(data, overrides, origins, notes)
    if seed is not None:
        data["seed"] = seed
        origins["seed"] = f"SEED={seed}"
    _check_numbers(data, "", origins, path)
    refuse_secrets(data)
    try:
        text = json.dumps(data)
    except TypeError as error:
        raise ConfigError(
            f"{path}: only plain values can stand in a profile ({error}). Put dates in quotes."
        ) from error
    try:
        return LoadedProfile(Profile.model_validate_json(text), path, origins, notes)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(e, origins, path) for e in error.errors())) from None


def _read_with_parents(path: Path, origins: dict[str, str], notes: list[str], children: tuple[Path, ...]) -> dict:
    if path.resolve() in children:
        raise ConfigError(f"{path}: 'extends' goes round in a circle. Remove one 'extends'.")
    data = _read_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        _note_origins(data, "", str(path), origins)
        return data
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends: expected the name or file of one profile, got {parent!r}.")
    beside = path.parent / parent
    parent_path = beside if _is_file(beside) else profile_path(parent)
    merged = _read_with_parents(parent_path, origins, notes, (*children, path.resolve()))
    _note_origins(data, "", str(path), origins)
    merged = merge(merged, data, Profile, _noted(origins, notes))
    notes += [
        f"{path}: {key} is {{}}, which takes nothing away: {', '.join(names)} stay. {REPLACE} {{}} leaves none."
        for key, names in emptied(merged, data, Profile)
    ]
    return merged


def _read_yaml(path: Path) -> dict:
    try:
        with path.open(encoding="utf-8") as file:
            data = yaml.load(file, ProfileLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    except ValueError as error:  # such as a date that no calendar has
        raise ConfigError(f"{path} holds a value that YAML cannot read: {error}. Put it in quotes.") from None
    except RecursionError:
        raise _too_deep(path) from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a profile is a mapping of keys to values, got {type(data).__name__}.")
    try:
        return respelled(_string_keys(data, str(path)), Profile)
    except RecursionError:
        raise _too_deep(path) from None


def _too_deep(path: Path) -> ConfigError:
    return ConfigError(f"{path} is nested too deeply to be a profile, or an alias (*name) in it stands for itself.")


def _string_keys(value: Any, where: str, inside: str = "") -> Any:
    """The value, checked to have nothing but texts as keys; `inside` is its own dotted key."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                place = f" in '{inside}'" if inside else ""
                raise ConfigError(f"{where}: the key {key!r}{place} is a {type(key).__name__}. Put it in quotes.")
        kept = {key: _string_keys(item, where, f"{inside}.{key}" if inside else key) for key, item in value.items()}
        return Replacing(kept) if isinstance(value, Replacing) else kept
    if isinstance(value, list):
        return [_string_keys(item, where, f"{inside}.{index}") for index, item in enumerate(value)]
    return value


def _check_numbers(value: Any, key: str, origins: dict[str, str], path: Path) -> None:
    """Raises ConfigError for a number that is none (`.nan`) or has no end (`.inf`, `1e999`)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        _check_numbers(item, f"{key}.{name}" if key else str(name), origins, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{origins.get(key, path)}: '{key}' is {value}. It should be a finite number.")


def _note_origins(data: Any, prefix: str, origin: str, origins: dict[str, str]) -> None:
    if isinstance(data, dict):
        for key, value in data.items():
            origins[f"{prefix}{key}"] = origin
            _note_origins(value, f"{prefix}{key}.", origin, origins)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            _note_origins(value, f"{prefix}{index}.", origin, origins)


def _noted(origins: dict[str, str], notes: list[str]) -> Say:
    """Writes down what is replaced, and forgets who set it."""

    def say(key: str, why: str) -> None:
        notes.append(f"{key} of {origins.pop(key, 'a parent')} is replaced: {why}")

    return say


def _apply_overrides(data: dict, overrides: Sequence[str], origins: dict[str, str], notes: list[str]) -> dict:
    """`data` with the overrides, which are one level: among each other the last one wins."""
    parsed = [(override, *_parse_override(override)) for override in overrides]
    level: dict = {}
    for _, parts, value in parsed:
        level = lay_over(level, respelled(_nested(parts, value), Profile))
    data = give_way(data, level, Profile, _noted(origins, notes))
    below = copy.deepcopy(data)
    for override, parts, value in parsed:
        as_given = _nested(parts, value)
        as_read = respelled(as_given, Profile)
        if as_read == as_given:
            _put(data, parts, value, override)
            origins[".".join(parts)] = f"SET {override}"
        else:
            data = lay_over(data, as_read)
            _note_origins(as_read, "", f"SET {override}", origins)
    return take_away(data, below, level, Profile)


def _nested(parts: Sequence[str], value: Any) -> Any:
    """`value` under the keys `parts`."""
    for part in reversed(parts):
        value = {part: value}
    return value


def _parse_override(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key or "" in key.split("."):
        raise ConfigError(f"SET '{override}': expected dotted.key=value, with quotes around blanks: key='two words'.")
    value = read_value(text, f"SET '{override}'")
    if key == "extends":
        raise ConfigError("SET extends=…: a parent is named in the file. Use PROFILE= for another profile.")
    return key.split("."), value


def _put(data: dict, parts: list[str], value: Any, override: str) -> None:
    target: Any = data
    *parents, last = parts
    for depth, part in enumerate(parents):
        target = _list_item(target, part, override) if isinstance(target, list) else target.setdefault(part, {})
        if not isinstance(target, dict | list):
            raise ConfigError(f"SET '{override}': {'.'.join(parents[: depth + 1])} is {target!r}, which has no keys.")
    if isinstance(target, list):
        _list_item(target, last, override)
        target[int(last)] = value
    else:
        target[last] = value


def read_value(text: str, where: str) -> Any:
    """A value written on the command line, read as YAML. Raises ConfigError that begins with `where`."""
    try:
        return _string_keys(yaml.load(text, ProfileLoader), where)
    except yaml.YAMLError as error:
        quoted = "Does it hold blanks? Put quotes around it: key='[1, 2]'."
        raise ConfigError(f"{where}: the value is not valid YAML: {error}\n{quoted}") from None
    except ValueError as error:  # such as a date that no calendar has
        raise ConfigError(f"{where}: the value cannot be read: {error}. Put it in quotes.") from None


def _list_item(items: list, part: str, override: str) -> Any:
    if not part.isdigit() or int(part) >= len(items):
        raise ConfigError(f"SET '{override}': '{part}' should be the number of an item, 0 to {len(items) - 1}.")
    return items[int(part)]


def _explain(error: dict, origins: dict[str, str], path: Path) -> str:
    location, kind = _written_location(error)
    key = ".".join(location)
    where = next(
        (origins[".".join(location[:n])] for n in range(len(location), 0, -1) if ".".join(location[:n]) in origins),
        str(path),
    )
    given = json.dumps(error["input"], ensure_ascii=False)
    given = given if len(given) <= 120 else given[:117] + "..."
    match error["type"]:
        case "extra_forbidden":
            known = _fields_at(location[:-1], kind)
            near = difflib.get_close_matches(location[-1], known, 1)
            advice = f"Did you mean '{near[0]}'?" if near else f"Known keys here: {', '.join(known) or 'none'}."
            return f"{where}: unknown key '{key}' (value {given}). {advice}"
        case "missing":
            needed_by = f", which kind: {kind} needs" if kind else ""
            return f"{where}: '{key}' is missing{needed_by}. Add it."
        case "union_tag_invalid":
            tag, expected = json.dumps(error["input"]["kind"]), error["ctx"]["expected_tags"]
            return f"{where}: '{key}' is {tag}. It should be one of {expected}."
        case "value_error" | "assertion_error" | "other_kind":
            message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            return f"{where}: {key + ': ' if key else ''}{message}"
        case _:
            return f"{where}: '{key}' is {given}. {error['msg'].replace('Input should', 'It should')}."


def _written_location(error: dict) -> tuple[list[str], str | None]:
    """The keys that lead to what is wrong, as a profile has them, and the kind of the section that it stands in, where
    that is one of several: pydantic names the kind among the keys."""
    location: list[str] = []
    annotation: Any = Profile
    kind = None
    for part in map(str, error["loc"]):
        families = [section for section in sections_in(annotation) if issubclass(section, OneOfKinds)]
        if families and kind is None and part in families[0].kinds:
            kind, annotation = part, families[0].kinds[part]
            continue
        kind = kind if error["loc"][-1] == part else None
        annotation = inside(annotation, part)
        location.append(part)
    if error["type"] == "union_tag_invalid":
        location.append("kind")
    if error["type"] == OTHER_KIND:
        location.append(error["ctx"]["key"])
    return location, kind


def _fields_at(location: Sequence[str], kind: str | None) -> list[str]:
    """The keys that a profile may have at a location, for advice; of several kinds of section those of `kind`."""
    annotation: Any = Profile
    for part in location:
        annotation = inside(annotation, part)
    sections = sections_in(annotation)
    of_kind = [section for section in sections if kind and section.model_fields["kind"].default == kind]
    return sorted({name for section in of_kind or sections for name in section.model_fields})
