"""Keys and tokens stay out of everything that is kept or shown: profiles, manifests, logs, reports, error messages."""

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipeline.core.errors import ConfigError

SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)S?$")
SECRET_KEY = re.compile(r"(^|_)(api_?key|access_key|secret|password|passwd|bearer|(hf|api|access|auth)_token)$", re.I)
SECRET_VALUE = re.compile(r"\b(sk-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})\b")
SHORTEST = 8
"""Characters below which the value of a variable is no secret: blotting out every `1` would hide the text."""


def redact(text: str) -> str:
    """The text with every secret of the environment, and whatever looks like a well-known kind of key, blotted out."""
    for name, value in _secrets(tuple(sorted(os.environ.items()))):
        text = text.replace(value, f"[{name}]")
    return SECRET_VALUE.sub("[a key]", text)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without its secrets, whether a variable's name says so or its value looks like a key."""
    return {
        name: value
        for name, value in environment.items()
        if not SECRET_VARIABLE.search(name) and not SECRET_VALUE.search(value) and not _address_with_secret(value)
    }


@cache
def _secrets(environment: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """(variable, value) of the secrets, longest first."""
    found = [(name, value) for name, value in environment if SECRET_VARIABLE.search(name) and len(value) >= SHORTEST]
    return sorted(found, key=lambda pair: -len(pair[1]))


def refuse_secrets(value: Any, key: str = "") -> None:
    """Raises ConfigError, without the secret, where a profile holds one: in a key that asks for one, in an address, or
    a value that is one."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            refuse_secrets(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str) and _is_secret(key.rpartition(".")[2], value):
        raise ConfigError(
            f"'{key}' holds what looks like a key or a password. Profiles are copied into manifests and reports, "
            "so none may stand there: put it into an environment variable (OPENAI_API_KEY, VLLM_API_KEY, or the one "
            "that the reward's api_key_env names)."
        )


def _is_secret(name: str, value: str) -> bool:
    return bool(value) and (bool(SECRET_KEY.search(name)) or redact(value) != value or _address_with_secret(value))


def _address_with_secret(value: str) -> bool:
    """Whether the text is a web address with a password, or with a key among its parameters."""
    if not value.lower().startswith(("http://", "https://")):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    names = [pair.partition("=")[0] for pair in parts.query.split("&")]
    return parts.password is not None or any(SECRET_KEY.search(name) or name in ("key", "token") for name in names)
