"""How a byte-level BPE tokenizer cuts text before merging, which GGUF files know by name.

llama.cpp and Ollama have these cuts compiled in (`tokenizer.ggml.pre`); transformers reads them from tokenizer.json.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = _WORDS.replace("DIGITS", "")
LLAMA3_WORDS = _WORDS.replace("DIGITS", "{1,3}")
NAMES = ("smollm", "gpt-2", "qwen2", "llama-bpe")
CONTROL, USER_DEFINED, NORMAL, UNUSED = 3, 4, 1, 5
"""Token types of GGUF files."""


def pre_tokenizer(name: str):
    """The `tokenizers` object of a name in NAMES; a ByteLevel without a regex works on what was cut before it."""
    from tokenizers import Regex, pre_tokenizers

    if name in ("smollm", "gpt-2"):
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        return words if name == "gpt-2" else pre_tokenizers.Sequence([digits, words])
    words = Regex({"qwen2": QWEN2_WORDS, "llama-bpe": LLAMA3_WORDS}[name])
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def pre_tokenizer_name(tokenizer) -> str:
    """The name under which GGUF files know a transformers tokenizer's cut. Raises ConfigError where there is none."""
    found = _rules(tokenizer.backend_tokenizer.pre_tokenizer)
    for name in NAMES:
        if _rules(pre_tokenizer(name)) == found:
            return name
    raise ConfigError(
        f"The tokenizer of {tokenizer.name_or_path} cuts text in a way that llama.cpp is not known to have: "
        f"{json.dumps(found)[:300]}. A GGUF file can be written for tokenizers that cut as one of {', '.join(NAMES)}."
    )


def _rules(cut) -> Any:
    """What tells one cut from another: its steps without the settings that change offsets alone."""
    if cut is None:
        return None
    state = json.loads(cut.__getstate__())
    steps = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    return [{key: value for key, value in step.items() if key not in ("trim_offsets", "invert")} for step in steps]


def read_gguf_tokenizer(file: Path):
    """The tokenizer of a GGUF file as a transformers tokenizer.

    transformers reads vocabulary, merges and chat template; how text is cut, and which tokens end and pad, it leaves at
    GPT-2's, so they are set here from the file. Raises ConfigError where the file names a cut that is not known.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, decoders
    from transformers import AutoTokenizer

    fields = GGUFReader(file).fields
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    if (field := fields.get("tokenizer.ggml.model")) and field.contents() == "gpt2":
        name = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else "gpt-2"
        if name not in NAMES:
            raise ConfigError(
                f"{file} says that its tokenizer cuts text like '{name}'; known are {', '.join(NAMES)}. "
                "Give the model as hub:OWNER/NAME or folder:PATH instead, whose tokenizer.json says how."
            )
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer(name)
        tokenizer.backend_tokenizer.model.ignore_merges = name == "llama-bpe"  # as llama.cpp does
        tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    if (field := fields.get("tokenizer.ggml.token_type")) and "tokenizer.ggml.tokens" in fields:
        texts = fields["tokenizer.ggml.tokens"].contents()
        for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
            own = [texts[index] for index, found in enumerate(field.contents()) if found == kind]
            tokenizer.add_tokens([AddedToken(text, normalized=False, special=special) for text in own])
    for role in ("bos", "eos", "padding", "unknown"):
        if (field := fields.get(f"tokenizer.ggml.{role}_token_id")) is not None:
            token = tokenizer.convert_ids_to_tokens(int(field.contents()))
            setattr(tokenizer, {"padding": "pad_token", "unknown": "unk_token"}.get(role, f"{role}_token"), token)
    return tokenizer
