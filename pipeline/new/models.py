"""Base models as a user names them, and what their tokenizers lack."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.config.loading import SHIPPED_PROFILES, load_profile
from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import control_tokens, load_tokenizer
from pipeline.models.shapes import shape_of
from pipeline.models.sources import SCHEMES, check_base, inner_source, local_folder, split_source
from pipeline.models.tokenizer_check import check_tokenizer

HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")
POCKET_STUDENTS = {"qwen": "pocket:student-qwen", "llama": "pocket:student-llama"}
ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "</s>", "<eos>")
"""Tokens that may end an answer, the most specific first."""
ADDED_PAD = "<|pad|>"


def model_source(text: str) -> str:
    """A source as a profile has it: `folder:…` for a path that is there, `hub:…` for OWNER/NAME.

    Raises ConfigError where it is neither, or where such a model cannot be.
    """
    text = text.strip()
    if text == "pocket":
        return "pocket:teacher"
    scheme, colon, _ = text.partition(":")
    if not (colon and scheme in SCHEMES):
        path = Path(text)
        if path.is_dir():
            text = f"folder:{text}"
        elif path.suffix == ".gguf":
            text = f"gguf:{text}"
        elif HUB_NAME.match(text):
            text = f"hub:{text}"
        else:
            raise ConfigError(
                f"No model '{text}': it is neither a folder here nor OWNER/NAME on the Hub. Give a folder, a .gguf "
                f"file, OWNER/NAME, or one of {', '.join(f'{scheme}:…' for scheme in SCHEMES)}."
            )
    check_base(text)
    return text


def student_sources(text: str, base: str) -> dict[str, str]:
    """Name -> source of each student: `qwen=OWNER/NAME llama=folder:PATH`, or sources alone, which give the names.

    Without any: those of the pocket world for its base, else the base without a quarter of its layers.
    """
    if not text.strip():
        return _default_students(base)
    students: dict[str, str] = {}
    for word in shlex.split(text):
        named, equals, source = word.partition("=")
        source = model_source(source if equals else word)
        name = named if equals else _name_of(source)
        if name in students or name == "teacher":
            raise ConfigError(f"STUDENTS={text!r}: the name '{name}' is taken. Give each student its own: NAME=SOURCE.")
        students[name] = source
    return students


def _default_students(base: str) -> dict[str, str]:
    if base.startswith("pocket:"):
        return dict(POCKET_STUDENTS)
    shape = shape_of(base)
    if shape is None or shape.layers < 2:
        raise ConfigError(f"STUDENTS is missing, and {base} is no model that layers can be cut of here. Name one.")
    return {"small": f"cut:{max(1, round(0.75 * shape.layers))}:{base}"}


def _name_of(source: str) -> str:
    last = source.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".gguf").lower()
    return re.sub(r"[^a-z0-9._-]", "-", last) or "student"


@cache
def tokenizer_settings(source: str) -> dict[str, Any]:
    """What a base's tokenizer lacks for the ladder, as `stages.base_model.tokenizers` has it; {} where nothing, and
    where nothing is known: a model that is not here and in no shipped profile."""
    while split_source(source)[0] in ("cut", "as-qwen2"):
        source = inner_source(source)
    if source.startswith("pocket:"):
        return {}
    folder = local_folder(source)
    return _of_shipped_profiles(source) if folder is None else _completed(source, folder)


def _of_shipped_profiles(source: str) -> dict[str, Any]:
    """The settings that a shipped profile has for the source, or for one of another size: `Qwen2.5-3B` as
    `Qwen2.5-1.5B`."""
    found = _shipped_settings()
    family = {other.rpartition("-")[0]: settings for other, settings in found.items() if other.startswith("hub:")}
    return found.get(source, family.get(source.rpartition("-")[0], {}))


@cache
def _shipped_settings() -> dict[str, dict[str, Any]]:
    """Model source -> tokenizer settings, over all shipped profiles."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(SHIPPED_PROFILES.glob("*.yaml")):
        section = load_profile(str(path)).profile.stages.base_model
        for role, other in {"teacher": section.teacher, **section.students}.items():
            if role in section.tokenizers:
                found[other] = section.tokenizers[role].model_dump(exclude_unset=True)
    return found


def _completed(source: str, folder: Path) -> dict[str, Any]:
    """The fewest changes that complete the tokenizer. If none of those tried does, raises the ConfigError of the
    unchanged tokenizer."""
    first = None
    for settings in _candidates(folder):
        try:
            check_tokenizer(source, folder, TokenizerSettings(**settings) if settings else None)
        except ConfigError as error:
            first = first or error
        else:
            return settings
    raise first


def _candidates(folder: Path) -> list[dict[str, Any]]:
    tokenizer = load_tokenizer(folder)
    vocabulary = tokenizer.get_vocab()
    ends = [token for token in dict.fromkeys([tokenizer.eos_token, *ENDS]) if token in vocabulary]
    template = "llama3" if {"<|eot_id|>", "<|start_header_id|>"} <= vocabulary.keys() else "chatml"
    turns = {"llama3": ["<|eot_id|>"], "chatml": ["<|im_start|>", "<|im_end|>"]}[template]
    missing = [token for token in turns if token not in vocabulary]
    with_template = {"eos_token": turns[-1], "chat_template": template}
    endings = [{}, *({"eos_token": end} for end in ends)] if tokenizer.chat_template else []
    endings.append(with_template)
    found: list[dict[str, Any]] = []
    for ending in endings:
        end = ending.get("eos_token", tokenizer.eos_token)
        added = missing if "chat_template" in ending else []
        pads = _pads(tokenizer, end)
        choices = [{}, *({"pad_token": pad} for pad in pads[:3]), {"pad_token": ADDED_PAD}]
        for choice in choices:
            new = [*added, *(pad for pad in choice.values() if pad not in vocabulary)]
            found.append({**ending, **choice, **({"add_tokens": new} if new else {})})
    return found


def _pads(tokenizer, end: str | None) -> list[str]:
    """Control tokens to pad with, those with `pad` in their name first."""
    vocabulary = tokenizer.get_vocab()
    unused = [t for t in control_tokens(tokenizer) if t in vocabulary and t not in (end, tokenizer.bos_token)]
    named = [token for token in unused if "pad" in token.lower()]
    return [*named, *(token for token in unused if token == "<|endoftext|>")]
