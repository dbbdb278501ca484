"""Training adapters instead of all weights: LoRA (arXiv 2106.09685) and QLoRA (arXiv 2305.14314), through peft.

A stage with a `lora:` section trains low-rank adapters of a frozen base. It saves them in `adapter/`, and a plain
checkpoint with the adapters merged in `checkpoint/`, which is what later stages read. Importing this loads no torch.
"""

from pathlib import Path
from typing import Literal

from pipeline.config.lora import LoRASettings


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


def load_policy(checkpoint: str | Path, lora: LoRASettings | None, dtype: str):
    """The model that a stage trains.

    Trained weights are float32. A frozen base is in the arithmetic's `dtype`, since no update has to fit into it, or
    in 4 bits.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options = {"dtype": getattr(torch, dtype) if lora else torch.float32}
    if lora and lora.quantize == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )
    return _for_training(AutoModelForCausalLM.from_pretrained(checkpoint, **options))


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


def adapters_in_float32(model) -> None:
    """Undoes TRL's cast of QLoRA adapters to bfloat16, which a resumed run would not have: peft loads float32 ones."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def quantised(model) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False))


def plain_model(model):
    """A model with plain weights that computes what `model` does: itself, or of a quantised one a copy, adapters
    merged. A rollout engine takes over and a checkpoint holds plain weights alone."""
    return _dequantised(model) if quantised(model) else model


def save_adapter(model, folder: Path) -> None:
    """The adapters alone, in peft's format, where the model has any."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder)


def merged_model(model):
    """The model with its adapters merged, as a plain one. A model without adapters is given back. `model` is spent."""
    if quantised(model):
        return _dequantised(model)
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _dequantised(model):
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoConfig, AutoModelForCausalLM

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = AutoConfig.for_model(**{k: v for k, v in base.config.to_dict().items() if k != "quantization_config"})
    with torch.device(base.device):
        plain = AutoModelForCausalLM.from_config(config, dtype=base.dtype)
    held = {name.replace(".base_layer", ""): parameter for name, parameter in base.named_parameters()}
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if held[name].shape == parameter.shape:  # else packed in 4 bits, and unpacked below
                parameter.copy_(held[name])
        for name, module in base.named_modules():
            layer = module.get_base_layer() if hasattr(module, "get_base_layer") else module
            if not isinstance(layer, Linear4bit) or name.endswith(".base_layer"):
                continue
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(base.dtype)
            for adapter in module.active_adapters if layer is not module else ():
                weight += module.get_delta_weight(adapter)
            plain.get_submodule(name).weight.copy_(weight)
    plain.generation_config = base.generation_config
    return plain.eval()
