"""The best weights of a run so far, by a score that its held-out evaluation gives.

best/step-000045.safetensors     every trained parameter, with the score in its header

An older candidate is kept until there is a resumable checkpoint at or after the best one: a run that resumes before the
best step has lost that step, and continues with the best of the earlier ones.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.core.buffers import kept_tensors, persistent_buffers
from pipeline.core.files import fsync_folder, fsync_tree

BEST = "best"


class BestWeights:
    """Opens the candidates in `folder`/best of steps up to `first_step`; removes later ones of an interrupted run."""

    def __init__(self, folder: Path, first_step: int):
        self._folder = folder / BEST
        self._folder.mkdir(parents=True, exist_ok=True)
        for step, file in self._files().items():
            if step > first_step:
                file.unlink()
        self._scores = {step: _score_in(file) for step, file in self._files().items()}

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, score); of equal scores the later step. None before the first."""
        if not self._scores:
            return None
        step = max(self._scores, key=lambda step: (self._scores[step], step))
        return step, self._scores[step]

    def offer(self, step: int, score: float, model: torch.nn.Module) -> None:
        """Keeps the trained parameters of `model` where no earlier score is higher."""
        if self.best is not None and score < self.best[1]:
            return
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad} | dict(persistent_buffers(model))
        trained = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.items()}
        writing = self._folder / f".step-{step:06d}"
        save_file(trained, writing, {"score": repr(score)})
        fsync_tree(self._folder)
        writing.rename(self._file(step))
        fsync_folder(self._folder)
        self._scores[step] = score

    def forget_others(self, resumable: int) -> None:
        """Removes all but the best, once a run can resume at step `resumable`, at or after the best."""
        best = self.best
        if best is None or best[0] > resumable:
            return
        for step in [step for step in self._scores if step != best[0]]:
            self._file(step).unlink(missing_ok=True)
            del self._scores[step]

    def load_into(self, model: torch.nn.Module) -> None:
        """Puts the best parameters into `model`, in place."""
        kept = load_file(self._file(self.best[0]))
        with torch.no_grad():
            for name, tensor in kept_tensors(model).items():
                if name in kept:
                    tensor.copy_(kept[name])

    def _file(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}.safetensors"

    def _files(self) -> dict[int, Path]:
        return {int(file.stem.removeprefix("step-")): file for file in sorted(self._folder.glob("step-*.safetensors"))}


def _score_in(file: Path) -> float:
    with safe_open(file, "pt") as stored:
        return float(stored.metadata()["score"])
