"""A live training model's weights, under the names and in the form of its checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.core.buffers import kept_tensors, persistent_buffers
from pipeline.core.causal_lm import held_modules
from pipeline.core.heads import has_own_head
from pipeline.core.shards import is_sharded, reshard, whole

NO_FUNCTION = frozenset(
    ("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "initializer_range",
     "bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "return_dict",
     "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "is_encoder_decoder", "pretraining_tp")
)  # fmt: skip
"""Entries of a configuration that do not affect sampling. All others, also unknown ones, must be equal for one engine
to serve two checkpoints."""


def checkpoint_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's parameters and persistent buffers as its checkpoint would hold them, LoRA adapters merged in. `model`
    is left unchanged.

    Tied weights appear once. Tensors are the live ones, except merged layers, which are copies, and those of a model in
    shards, which are gathered: then all processes must call this. One with adapters is to be whole.
    """
    from transformers.core_model_loading import revert_weight_conversion

    base = model.get_base_model() if has_adapters(model) else model
    return dict(revert_weight_conversion(base, running_weights(model)))


@torch.no_grad()
def running_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """`checkpoint_weights` under the names and in the form of the running model, for another one of its class."""
    return dict(_named_weights(model))


@torch.no_grad()
def streamed_weights(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield `checkpoint_weights` one by one, so that of a sharded model only one is gathered at a time, as `dtype`, if
    its checkpoint stores weights in the model's own form."""
    if not is_sharded(model) or has_adapters(model) or stored_otherwise(model):
        yield from checkpoint_weights(model).items()
        return
    reshard(model)
    for name, parameter in model.named_parameters():
        yield name, whole(parameter, dtype)
    yield from persistent_buffers(model)  # each process has them whole, in the precision that they need


def stored_otherwise(model) -> bool:
    """Whether the checkpoint has other tensors, or other names, than the model, as with experts."""
    from transformers.core_model_loading import revert_weight_conversion

    names = {name: torch.empty_like(tensor, device="meta") for name, tensor in kept_tensors(model).items()}
    stored = dict(revert_weight_conversion(model, names))
    return stored.keys() != names.keys() or any(stored[name] is not tensor for name, tensor in names.items())


def has_adapters(model) -> bool:
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


@torch.no_grad()
def _named_weights(model) -> Iterator[tuple[str, torch.Tensor]]:
    if not has_adapters(model):
        if is_sharded(model):
            reshard(model)
        for name, parameter in model.named_parameters():
            yield name, whole(parameter)
        yield from persistent_buffers(model)
        return
    merged = _merged_weights(model)
    for name, parameter in model.named_parameters():
        if model.prefix in name or "original_module" in name:
            continue
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        yield plain.replace(".modules_to_save.default", ""), merged.get(id(parameter), parameter.data)
    for name, buffer in persistent_buffers(model):
        yield name.removeprefix("base_model.model.").replace(".base_layer", ""), buffer


def _merged_weights(model) -> dict[int, torch.Tensor]:
    """The id of each weight that adapters add to -> a copy with all of them added.

    One module may have several adapters around it: experts that are two tensors have one for each.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    around: dict[int, list] = {}
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            around.setdefault(id(module.get_base_layer()), []).append(module)
    merged = {}
    for layers in around.values():
        # Unmerging by subtraction would leave rounding errors in the base weights, so they are put back by copy.
        weights = list(layers[0].get_base_layer().parameters())
        kept = [weight.detach().clone() for weight in weights]
        for layer in layers:
            layer.merge()
        merged |= {id(weight): weight.detach().clone() for weight in weights}
        for layer in layers:
            layer.unmerge()
        for weight, before in zip(weights, kept, strict=True):
            weight.copy_(before)
    return merged


def check_same_architecture(served: str, folder: str | Path) -> None:
    """Raise ValueError where the checkpoint at `folder` could not replace the weights of the one at `served`."""
    ours, theirs = _shape(served), _shape(folder)
    keys = sorted(ours.keys() | theirs.keys())
    differing = {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}
    if differing:
        listed = ", ".join(f"{key} is {a} in the engine and {b} in the checkpoint" for key, (a, b) in differing.items())
        raise ValueError(
            f"cannot load {folder} into an engine opened on {served}: {listed}; "
            "close this engine and open another one on that checkpoint"
        )


def same_architecture(one: str | Path, other: str | Path) -> bool:
    """Whether an engine opened on one checkpoint could serve the other."""
    return _shape(one) == _shape(other)


def _shape(path: str | Path) -> dict:
    """Everything in a checkpoint, other than weights, that its answers depend on."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(path)).to_dict()
    if config.get("tie_word_embeddings") and has_own_head(Path(path)):
        config["tie_word_embeddings"] = False
    config["multi-token modules"] = held_modules(Path(path))
    return {key: value for key, value in config.items() if key not in NO_FUNCTION and "drop" not in key}
