"""Base models on the Hugging Face Hub: whether one can be had, and fetching it."""

import contextlib
import shutil
from functools import cache
from pathlib import Path

from pipeline.core.errors import ConfigError, first_line
from pipeline.core.hub_errors import refusal

WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What is taken from a hub repository: no pickled weights, no code."""
HUB_SECONDS = 5.0
"""How long a check waits for the Hub."""


@cache
def look_at_hub(name: str) -> str | None:
    """None for a model in the Hub's cache here; else asks the Hub whether it can be had, and says what it found.

    Raises ConfigError for a model that is gated or does not exist. An unreachable Hub is no error yet.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if name.count("/") != 1 or not all(name.split("/")):
        raise ConfigError(f"hub:{name} is no name of a model on the Hub: it lacks the owner. Expected hub:OWNER/NAME.")
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return None
    try:
        with _hub_refusals(name):
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_SECONDS)
    except _Unreachable as error:
        return f"hub:{name} is not on this machine, and the Hugging Face Hub cannot be reached from it ({error})"
    return f"hub:{name} is not on this machine and will be fetched from the Hugging Face Hub"


class _Unreachable(Exception):
    """The Hub gave no answer."""


@contextlib.contextmanager
def _hub_refusals(name: str):
    """Turns the Hub's refusals into ConfigError, and silence into _Unreachable."""
    from httpx import HTTPError
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except RepositoryNotFoundError as error:
        raise refusal(name, error) from None
    except HFValidationError as error:
        raise ConfigError(f"hub:{name} is no name of a model on the Hub: {error}. Expected hub:OWNER/NAME.") from None
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):  # which is how an unreachable Hub without a cache reads
            raise ConfigError(f"hub:{name} has no config.json, so it is no transformers checkpoint.") from None
        raise _Unreachable(first_line(error)) from None
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise _Unreachable(first_line(error)) from None


def fetch_from_hub(name: str, target: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        with _hub_refusals(name):
            snapshot = snapshot_download(name, allow_patterns=list(WANTED))
    except _Unreachable as error:
        raise ConfigError(
            f"hub:{name} could not be fetched: {error}. Check the network, or give folder:PATH of a local copy."
        ) from None
    shutil.copytree(snapshot, target)
