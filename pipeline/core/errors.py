"""The two errors that a user may meet, and the exit code of each.

A message says what was given, what was expected, where, and what to do. Anything else that is raised is a defect.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class LadderError(Exception):
    exit_code = 1


class ConfigError(LadderError):
    """What was asked for cannot be run as asked: a profile, an option, a file of the user's. Nothing has started."""

    exit_code = 2


class RunError(LadderError):
    """The run met something that it cannot go on with. What was finished stays."""


@contextmanager
def told_with(key: str) -> Iterator[None]:
    """Puts the profile's key before what is wrong with its value, a path that cannot be read included."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {type(error).__name__}: {error}. Correct the path, or what lies there.") from error


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
