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
    """What identifies a pre-tokenizer: its steps, without the settings that only change offsets."""
    if cut is None:
        return None
    state = json.loads(cut.__getstate__())
    steps = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    return [{key: value for key, value in step.items() if key not in ("trim_offsets", "invert")} for step in steps]


def read_gguf_tokenizer(file: Path):
    """The tokenizer of a GGUF file as a transformers tokenizer.

    Raises ConfigError where the file names a cut, or a kind of tokenizer, that is not known.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    fields = {name: field.contents() for name, field in GGUFReader(file).fields.items() if "tokenizer" in name}
    if fields.get("tokenizer.ggml.model") == "gpt2":
        tokenizer = _byte_level(file, fields)
    else:  # made by SentencePiece, whose cut is no matter of names
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    texts, kinds = fields["tokenizer.ggml.tokens"], fields.get("tokenizer.ggml.token_type", [])
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        own = [texts[index] for index, found in enumerate(kinds) if found == kind]
        tokenizer.add_tokens([AddedToken(text, normalized=False, special=special) for text in own])
    for role in ("bos", "eos", "padding", "unknown"):
        if (number := fields.get(f"tokenizer.ggml.{role}_token_id")) is not None:
            token = tokenizer.convert_ids_to_tokens(int(number))
            setattr(tokenizer, {"padding": "pad_token", "unknown": "unk_token"}.get(role, f"{role}_token"), token)
    if fields.get("tokenizer.chat_template"):
        tokenizer.chat_template = fields["tokenizer.chat_template"]
    return tokenizer


def _byte_level(file: Path, fields: dict[str, Any]):
    """A tokenizer of bytes from the vocabulary and the merges of a GGUF file, without its special tokens."""
    from tokenizers import Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    name = fields.get("tokenizer.ggml.pre", "gpt-2")
    if name not in NAMES:
        raise ConfigError(
            f"{file} says that its tokenizer cuts text like '{name}'; known are {', '.join(NAMES)}. "
            "Give the model as hub:OWNER/NAME or folder:PATH instead, whose tokenizer.json says how."
        )
    texts = fields["tokenizer.ggml.tokens"]
    kinds = fields.get("tokenizer.ggml.token_type", [NORMAL] * len(texts))
    vocabulary = {text: number for number, text in enumerate(texts) if kinds[number] != UNUSED}
    merges = [tuple(merge.split(" ", 1)) for merge in fields.get("tokenizer.ggml.merges", [])]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=name == "llama-bpe"))  # as llama.cpp
    made.pre_tokenizer, made.decoder = pre_tokenizer(name), decoders.ByteLevel()
    bos = fields.get("tokenizer.ggml.bos_token_id")
    if bos is not None and fields.get("tokenizer.ggml.add_bos_token"):
        made.post_processor = processors.TemplateProcessing(
            single="$BOS $A".replace("$BOS", texts[bos]), special_tokens=[(texts[bos], int(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, name_or_path=str(file))
