"""Rollout engines kept open between stages: starting one costs more than a pocket stage's sampling."""

import errno
import shutil
from pathlib import Path

from pipeline.core.errors import ConfigError, RunError
from pipeline.core.tokens import load_tokenizer
from pipeline.core.watchdog import phase
from pipeline.engines import Engine, EngineSettings, open_engine
from pipeline.engines.engine import MissingEngineError

SHARED_MEMORY = Path("/dev/shm")


class EnginePool:
    """Holds at most one open engine. Asking for a checkpoint of the architecture that it serves swaps the weights;
    any other closes it and opens another, so memory never holds two."""

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self._engine: Engine | None = None

    def use(self, settings: EngineSettings) -> None:
        """Opens engines with other settings from now on."""
        if settings != self.settings:
            self.close()
            self.settings = settings

    @property
    def current(self) -> Engine:
        """The engine that was opened last."""
        if self._engine is None:
            raise RuntimeError("no engine is open; call serve first")
        return self._engine

    @phase("engine start")
    def serve(self, checkpoint: Path, seed: int, adapter_rank: int | None = None, device: str | None = None) -> Engine:
        """Return an engine with the weights and the tokenizer of a checkpoint folder. `seed` restarts its random
        stream; it computes on `device` (default: this machine's).

        With `adapter_rank` it accepts LoRA adapters of that checkpoint, and of no other.

        Raises ConfigError where the engine's package is missing, RunError where the engine cannot serve the checkpoint.
        """
        from pipeline.engines.weights import same_architecture

        tokenizer = load_tokenizer(checkpoint)
        swaps = self._engine is not None and not (adapter_rank or self._engine.adapter_rank)
        if swaps and same_architecture(self._engine.model_path, checkpoint):
            try:
                self._engine.serve(checkpoint, tokenizer, seed)
            except NotImplementedError as error:
                raise RunError(str(error)) from error
            return self._engine
        self.close()
        try:
            self._engine = open_engine(self.settings, checkpoint, tokenizer, seed, adapter_rank, device)
        except MissingEngineError as error:
            raise ConfigError(str(error)) from error
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(
                f"The engine '{self.settings.kind}' could not be opened on {checkpoint}: {error}{_full_memory(error)}"
            ) from error
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _full_memory(error: Exception) -> str:
    """Advice if shared memory, which engines need to start, is full; '' for other errors."""
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        return ""
    free = shutil.disk_usage(SHARED_MEMORY).free / 2**20
    return f". {SHARED_MEMORY} has {free:.0f} MiB free: make room there, or give a container more (--shm-size=1g)"
