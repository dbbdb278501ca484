"""What a GGUF file says of its model, beyond what transformers reads of it."""

from pathlib import Path

from pipeline.core.errors import ConfigError

LLAMA3_FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
LLAMA3_LENGTHS = (8192, 4096, 2048, 16384, 32768)
"""Scalings that a file's frequencies are compared with; the models of Meta have 8 and 32, and 8192."""


def read_gguf_config(file: Path):
    """The transformers configuration of the file's model, with its head size and Llama 3's scaling of rotations.

    Raises ConfigError for a scaling that the file does not determine.
    """
    from gguf import GGUFReader
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    reader = GGUFReader(file)
    kind = reader.fields["general.architecture"].contents()
    size = reader.fields.get(f"{kind}.attention.key_length")
    if size is not None and hasattr(config, "head_dim"):
        config.head_dim = int(size.contents())
    factors = next((tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight"), None)
    if factors is not None and factors.max() > 1.0:
        config.rope_parameters = _llama3_scaling(file, config, factors)
    return config


def gguf_end_ids(file: Path) -> list[int]:
    """Every token that ends an answer by the file, the first one first."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    found = [fields.get(f"tokenizer.ggml.{role}_token_id") for role in ("eos", "eot", "eom")]
    return list(dict.fromkeys(int(field.contents()) for field in found if field is not None))


def llama3_factors(rope: dict, head_size: int):
    """What Llama 3.1's scaling divides each rotary frequency by: (head size / 2) numbers."""
    import torch

    frequencies = 1.0 / rope["rope_theta"] ** (torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    lengths = 2 * torch.pi / frequencies
    smooth = (original / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    scaled = torch.where(lengths > original / low, torch.full_like(lengths, rope["factor"]), between)
    return torch.where(lengths < original / high, torch.ones_like(lengths), scaled)


def _llama3_scaling(file: Path, config, factors) -> dict:
    """The scaling whose frequencies the file holds."""
    import torch

    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    for factor in LLAMA3_FACTORS:
        for original in LLAMA3_LENGTHS:
            rope = {
                "rope_type": "llama3", "rope_theta": theta, "factor": factor, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": original,
            }  # fmt: skip
            if torch.allclose(llama3_factors(rope, size), torch.tensor(factors).float(), rtol=1e-4):
                return rope
    raise ConfigError(
        f"{file} scales its rotary frequencies in a way that is not known here (rope_freqs.weight). Give the model as "
        "hub:OWNER/NAME or folder:PATH instead, whose config.json says how."
    )
