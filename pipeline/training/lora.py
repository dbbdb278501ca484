"""Training adapters instead of all weights: LoRA (arXiv 2106.09685) and QLoRA (arXiv 2305.14314), through peft.

A stage with a `lora:` section trains low-rank adapters of a frozen base. It saves them in `adapter/`, and a plain
checkpoint with the adapters merged in `checkpoint/`, which is what later stages read. Importing this loads no torch.
"""

import logging
from pathlib import Path
from typing import Any, Literal

from pipeline.config.lora import LoRASettings
from pipeline.core.buffers import kept_tensors, persistent_buffers
from pipeline.core.causal_lm import load_causal_lm, settle_multi_token
from pipeline.core.console import LOGGER

ROUTERS = ("gate", "router")
"""Names of expert routers: peft counts them as linear layers, but here they get an adapter only if named."""
MERGE_LOSS = 0.02
"""Share of an update's norm that merging into narrower weights may lose."""


def peft_config(settings: LoRASettings, task_type: Literal["CAUSAL_LM", "SEQ_CLS"] = "CAUSAL_LM"):
    """peft's form of these settings. With SEQ_CLS the head that gives the score is trained as a whole."""
    from peft import LoraConfig

    return LoraConfig(
        task_type=task_type,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )


def load_policy(checkpoint: str | Path, lora: LoRASettings | None, dtype: str, dropout: bool = True, mtp_weight=0.0):
    """The model that a stage trains, with its multi-token prediction module where that has a weight in the loss.

    Trained weights are float32. A frozen base is in the arithmetic's `dtype`, since no update has to fit into it, or
    in 4 bits. Without `dropout` what the base's configuration sets of it is zero.
    """
    import torch
    from transformers import BitsAndBytesConfig

    options = {"dtype": getattr(torch, dtype) if lora else torch.float32}
    if not dropout:
        options |= dict.fromkeys(dropouts(checkpoint), 0.0)
    if lora and lora.quantize == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )
    model = _for_training(load_causal_lm(checkpoint, **options))
    settle_multi_token(model, mtp_weight)
    return model


def dropouts(checkpoint: str | Path) -> dict[str, float]:
    """Entries of a base's configuration that drop something at random in training, and how often."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint).to_dict()
    named = {key: value for key, value in config.items() if "drop" in key}
    return {key: value for key, value in named.items() if type(value) in (int, float) and value > 0}


def load_scorer(checkpoint: str | Path, lora: LoRASettings | None, dtype: str, pad_token_id: int | None):
    """The language model of a checkpoint with a head of one label, drawn at random, in place of its own.

    Weights are float32, those of a frozen base in `dtype`.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=1, dtype=getattr(torch, dtype) if lora else torch.float32, pad_token_id=pad_token_id
    )
    return _for_training(model)


def _for_training(model):
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # repacks weights in place, which not every width survives
            module.support_avx512bf16_for_cpu = False
    return model


def settle_adapters(model, settings: LoRASettings | None) -> None:
    """Adapters as they are to be trained: float32, and none of a router under `all-linear`."""
    adapters_in_float32(model)
    if settings is None or settings.target_modules != "all-linear":
        return
    for name, module in list(model.named_modules()):
        above, _, leaf = name.rpartition(".")
        if leaf in ROUTERS and hasattr(module, "get_delta_weight"):
            setattr(model.get_submodule(above), leaf, module.get_base_layer())
    for config in model.peft_config.values():
        for key in ("target_modules", "target_parameters"):
            names = getattr(config, key, None)
            if names and not isinstance(names, str):
                setattr(config, key, {name for name in names if not set(name.split(".")) & set(ROUTERS)})


def adapters_in_float32(model) -> None:
    """Undoes TRL's cast of QLoRA adapters to bfloat16, which a resumed run would not have: peft loads float32 ones."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def quantised(model) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False))


def plain_model(model):
    """Returns `model`, or a dequantised copy with adapters merged: engines and checkpoints accept only plain
    weights."""
    return _dequantised(model) if quantised(model) else model


def save_adapter(model, folder: Path) -> None:
    """Save only the adapters, in peft's format, if the model has any."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder)


def checkpoint_model(model, dtype: str):
    """The model to write into a checkpoint: plain, in `dtype`, adapters merged. `model` must not be used afterwards.

    Adapters are merged in float32. Their updates are often smaller than the spacing of bfloat16 numbers, so that
    rounding would undo them. The loss is measured and logged; above `MERGE_LOSS` the checkpoint is float32, so that it
    is the policy that was trained.
    """
    import torch

    wanted = getattr(torch, dtype)
    adapted = hasattr(model, "merge_and_unload")
    before = _adapted_weights(model) if adapted else {}
    if quantised(model):
        model = _dequantised(model, torch.float32)
    elif adapted:
        model = model.float().merge_and_unload()
    if not before or wanted == torch.float32:
        return in_dtype(model, wanted)
    lost = _rounded_away(model, before, wanted)
    log = logging.getLogger(LOGGER)
    if lost > MERGE_LOSS:
        log.warning(
            "Merging the adapters into %s weights would lose %.0f %% of what they learned, so the checkpoint is "
            "float32. The adapters are beside it.", dtype, 100 * lost,
        )  # fmt: skip
        return model.float()
    log.info(
        "The adapters are merged into %s weights: %.2f %% of what they learned is rounded away.", dtype, 100 * lost
    )
    return in_dtype(model, wanted)


def in_dtype(model, dtype):
    """`model` with its numbers in `dtype`, in place, but for those that its class keeps in float32 always: the biases
    of routers, whose steps bfloat16 would swallow."""
    always = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    kept = {name: t.detach().float() for name, t in kept_tensors(model).items() if always & set(name.split("."))}
    model.to(dtype)
    for name, tensor in kept_tensors(model).items():
        if name in kept:
            tensor.data = kept[name]
    return model


def _adapted_weights(model) -> dict[str, Any]:
    """Name -> the weight that an adapter adds to, as it is, on the CPU."""
    found = {}
    for name, module in model.get_base_model().named_modules():
        if not hasattr(module, "get_delta_weight") or not getattr(module, "active_adapters", None):
            continue
        parameter = getattr(module, "parameter_name", "weight")  # of experts that are one tensor
        weight = getattr(module.get_base_layer(), parameter)
        if hasattr(weight, "quant_state"):
            weight = _unpacked(weight)
        found[f"{name.replace('.base_layer', '')}.{parameter}"] = weight.detach().to("cpu", copy=True)
    return found


def _rounded_away(model, before: dict[str, Any], dtype) -> float:
    """Size of what rounding the weights to `dtype` changes, against that of what was added to `before` (Frobenius)."""
    weights = dict(model.named_parameters())
    lost = added = 0.0
    for name, start in before.items():
        weight = weights[name].detach().cpu().float()
        lost += (weight.to(dtype).float() - weight).square().sum().item()
        added += (weight - start.float()).square().sum().item()
    return (lost / added) ** 0.5 if added else 0.0


def _unpacked(weight):
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state)


def _dequantised(model, dtype=None):
    import torch
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoConfig

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = AutoConfig.for_model(**{k: v for k, v in base.config.to_dict().items() if k != "quantization_config"})
    with torch.device(base.device):
        plain = type(base)._from_config(config, dtype=dtype or base.dtype)
    held = {name.replace(".base_layer", ""): parameter for name, parameter in base.named_parameters()}
    with torch.no_grad():
        for (_, buffer), (_, own) in zip(persistent_buffers(base), persistent_buffers(plain), strict=True):
            own.data = buffer.clone()
        for name, parameter in plain.named_parameters():
            if held[name].shape == parameter.shape:  # else packed in 4 bits, and unpacked below
                parameter.copy_(held[name])
        for name, module in base.named_modules():
            layer = module.get_base_layer() if hasattr(module, "get_base_layer") else module
            if not isinstance(layer, Linear4bit) or name.endswith(".base_layer"):
                continue
            weight = _unpacked(layer.weight).to(dtype or base.dtype)
            for adapter in module.active_adapters if layer is not module else ():
                weight += module.get_delta_weight(adapter).to(weight.dtype)
            plain.get_submodule(name).weight.copy_(weight)
    plain.generation_config = base.generation_config
    return plain.eval()
