"""Runs inside vLLM's workers: takes over the weights that a trainer has written into a folder.

A server takes it with

    --worker-extension-cls pipeline.engines.vllm_folder.Extension
    --weight-transfer-config '{"backend": "ladder_folder"}'

vLLM imports the extension in the process that owns the weights, and the import registers the back end of its weight
transfer. A folder that both ends see needs no group of processes: servers come and go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from pipeline.engines.vllm_needs import repack_cpu_weights

BACKEND = "ladder_folder"


@dataclass
class FolderInit(WeightTransferInitInfo):
    """Nothing has to be agreed on before."""


@dataclass
class FolderUpdate(WeightTransferUpdateInfo):
    """A folder of safetensors files with so many weights under the names of a checkpoint."""

    folder: str
    weights: int


class FolderEngine(WeightTransferEngine[FolderInit, FolderUpdate]):
    """Loads a folder whole, or leaves the model as it is.

    All is done in `receive_weights`: vLLM calls what comes before without the folder, and what comes after also sets
    the version, which a failed update must not get.
    """

    init_info_cls = FolderInit
    update_info_cls = FolderUpdate

    def init_transfer_engine(self, init_info: FolderInit) -> None:
        """Nothing to meet."""

    def start_weight_update(self) -> None:
        """Nothing is touched before the folder has been looked at."""

    def receive_weights(self, update_info: FolderUpdate) -> None:
        """Raises RuntimeError where the folder lacks weights of the model, or is not what was announced."""
        if fault := fault_of(update_info.folder, update_info.weights):
            raise RuntimeError(fault)
        files = sorted(Path(update_info.folder).glob("*.safetensors"))
        wanted = {name for name, _ in self.model.named_parameters()}
        initialize_layerwise_reload(self.model)
        try:
            loaded = self.model.load_weights(_weights(files, self.device))
        finally:
            finalize_layerwise_reload(self.model, self.model_config)
        if loaded is not None and wanted - loaded:
            raise RuntimeError(f"{update_info.folder} has nothing for {', '.join(sorted(wanted - loaded)[:5])}")
        if torch.device(self.device).type == "cpu":
            repack_cpu_weights(self.model)

    def finish_weight_update(self) -> None:
        """Everything is in its place."""

    def shutdown(self) -> None:
        """Nothing is held."""


def fault_of(folder: str, weights: int) -> str:
    """What keeps the folder, as this machine sees it, from being loaded; '' for nothing."""
    found = 0
    try:
        for file in Path(folder).glob("*.safetensors"):
            with safe_open(file, framework="pt") as opened:
                found += len(opened.keys())
    except (SafetensorError, OSError) as error:
        return f"{file}: {error}"
    if found != weights:
        return f"the server finds {found} weights in {folder}, and {weights} were written there; both must see one disk"
    return ""


def _weights(files: list[Path], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        with safe_open(file, framework="pt", device=str(device)) as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)


class Extension:
    """Importing it registers the back end; its method becomes one of the worker."""

    def fault_of_weights(self, folder: str, weights: str) -> str:
        """`fault_of`, for whoever asks before an update: one that fails in the middle ends the server (vLLM 0.32)."""
        return fault_of(folder, int(weights))


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, FolderEngine)
