"""Rows of a data set on the Hugging Face Hub, with a separate error for each thing that can be wrong with its name."""

import itertools
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from data_recipes.sources.mapping import RowMapping
from data_recipes.sources.tables import Record
from pipeline.core.errors import ConfigError
from pipeline.core.hub_errors import causes, refusal

PATIENCE_S = 5.0


class HubArgs(RowMapping):
    """Which part of a data set, and how it becomes question rows."""

    config: str | None = None
    """The configuration (subset) of a data set that has several."""
    split: str = "train"
    revision: str | None = None
    """A commit, tag or branch. A commit keeps a run repeatable."""


class HubUnreachableError(ConfigError):
    """Nothing is known to be wrong with the name: the Hub does not answer, and the data set is not on this machine."""


def read_hub(name: str, args: HubArgs, first: int | None = None) -> Iterator[Record]:
    """Rows of the data set `OWNER/NAME`, at most `first`, which are streamed so that no more is fetched.

    What was fetched before is read from this machine. Raises ConfigError where the data set, its configuration, split
    or revision does not exist or is gated, HubUnreachableError where that cannot be known.
    """
    if name.count("/") != 1:
        raise ConfigError(f"hub:{name}: expected hub:OWNER/NAME, such as hub:openai/gsm8k.")
    try:
        rows = _load(name, args, streaming=first is not None)
    except HubUnreachableError:
        if first is None:
            raise
        rows = _load(name, args, streaming=False)
    try:
        rows, mixed = _as_written(rows)
        for number, row in enumerate(itertools.islice(rows, first), 1):
            values = {column: _as_it_was(value) if column in mixed else value for column, value in row.items()}
            yield f"hub:{name}, row {number} of '{args.split}'", values
    except ConfigError:
        raise
    except Exception as error:
        raise _explained(name, args, error) from error


def _load(name: str, args: HubArgs, streaming: bool):
    import datasets

    if not _hub_answers():
        # datasets would retry each request for half a minute; in offline mode it reads its cache at once
        datasets.config.HF_HUB_OFFLINE = True
    try:
        return datasets.load_dataset(name, args.config, split=args.split, revision=args.revision, streaming=streaming)
    except Exception as error:
        raise _explained(name, args, error) from error


def _as_written(rows: Any) -> tuple[Any, list[str]]:
    """The rows with columns of several types as the JSON that stands in them, and which columns those are.

    datasets keeps such a column as JSON and reads text that looks like JSON as what it looks like: 033 and 2.50 beside
    one number become 33 and 2.5, and `true` a truth value.
    """
    from datasets import Json, Value

    mixed = [column for column, feature in (rows.features or {}).items() if isinstance(feature, Json)]
    for column in mixed:
        rows = rows.cast_column(column, Value("string"))
    return rows, mixed


def _as_it_was(written: str | None) -> Any:
    """A value of a column of several types: text, a number as its text, a list or a mapping."""
    if written is None or written[:1] not in ('"', "[", "{"):
        return written
    try:
        return json.loads(written)
    except ValueError:
        return written


@cache
def _hub_answers() -> bool:
    """Whether the Hub answers within a few seconds, asked once a process."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=PATIENCE_S)
    except httpx.TransportError:
        return False
    return True


def _explained(name: str, args: HubArgs, error: Exception) -> Exception:
    """The error to tell the user; a defect of ours stays what it is."""
    import httpx
    from datasets.exceptions import DatasetsError
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RevisionNotFoundError

    if refused := refusal(name, error):
        return refused
    found = list(causes(error))
    status = next((code for cause in found if (code := _status(cause)) in (401, 403, 404)), None)
    if any(isinstance(cause, RevisionNotFoundError) for cause in found):
        return ConfigError(f"hub:{name} has no revision {args.revision!r}. Name a commit, tag or branch that it has.")
    if status:
        return ConfigError(
            f"hub:{name}: the Hub refuses with status {status}. Check the name, and the token in HF_TOKEN or that of "
            "`hf auth login`."
        )
    unreachable = (ConnectionError, TimeoutError, OfflineModeIsEnabled, httpx.TransportError, HfHubHTTPError)
    if any(isinstance(cause, unreachable) for cause in found):
        mend = "Unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "Check the network"
        return HubUnreachableError(
            f"hub:{name} cannot be reached and is not on this machine. {mend}, or give a local copy: jsonl:PATH, "
            "csv:PATH or parquet:PATH with the same column mapping, and for a benchmark args: {path: PATH}."
        )
    if isinstance(error, DatasetsError | ValueError | FileNotFoundError | RuntimeError):
        return ConfigError(f"hub:{name} with {_part(args)}: {error}")
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _part(args: HubArgs) -> str:
    part = {"config": args.config, "split": args.split, "revision": args.revision}
    return ", ".join(f"{key} {value}" for key, value in part.items() if value is not None)
