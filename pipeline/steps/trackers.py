"""Send figures of a running RL stage to the trackers that the profile names.

`tensorboard` writes into the stage's own folder; `trackio` and `wandb` are asked in their own ways (environment
variables, `wandb login`) where to write. Each is imported only when it is named.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.core.errors import ConfigError

TrackerName = Literal["tensorboard", "trackio", "wandb"]
PROJECT = "r1-ladder"


class Tracker(Protocol):
    def log(self, step: int, figures: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files under `<stage>/tensorboard/`. A resumed run hides what was written past the checkpoint before."""

    def __init__(self, run: str, stage: str, folder: Path, config: dict[str, Any]):
        self._folder, self._writer = folder / "tensorboard", None

    def log(self, step: int, figures: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Trackio:
    def __init__(self, run: str, stage: str, folder: Path, config: dict[str, Any]):
        import trackio

        self._trackio = trackio
        self._run = self._trackio.init(project=PROJECT, name=f"{run}/{stage}", config=config, resume="allow")

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self) -> None:
        self._trackio.finish()


class WandB:
    def __init__(self, run: str, stage: str, folder: Path, config: dict[str, Any]):
        import wandb

        self._run = wandb.init(
            project=PROJECT, name=f"{run}/{stage}", group=run, id=f"{run}-{folder.name}", resume="allow", config=config
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": WandB}


def check_trackers(names: list[TrackerName]) -> None:
    """Raises ConfigError for a tracker that is not installed. Imports nothing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"The profile names the tracker '{name}', which is not installed. Install it with "
                f"`.venv/bin/pip install {name}`, or leave it out of `trackers`."
            )


class Trackers:
    """All trackers of one stage. Use it as a context manager, so that they are closed whatever happens.

    Raises ConfigError where a named tracker is not installed.
    """

    def __init__(self, names: list[TrackerName], run: str, stage: str, folder: Path, config: dict[str, Any]):
        check_trackers(names)
        self._trackers = [TRACKERS[name](run, stage, folder, config) for name in names]

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_) -> None:
        for tracker in self._trackers:
            tracker.close()

    def log(self, figures: dict[str, Any], prefix: str = "") -> None:
        """A line of `metrics.jsonl` or `heldout.jsonl`; what is not a number is left out."""
        numbers = dict(_numbers(figures, prefix))
        step = figures["step"]
        for tracker in self._trackers:
            tracker.log(step, numbers)


def _numbers(figures: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield f"{prefix}{name}", value
