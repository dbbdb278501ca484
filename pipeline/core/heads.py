"""Whether a checkpoint's language-model head is its embedding or a matrix of its own, by what its files hold.

A configuration may say `tie_word_embeddings` over a file with a head that is another matrix. transformers then computes
with the head of the file, and vLLM and llama.cpp with the embedding: three names for two models. The file is right.
"""

import json
from pathlib import Path

from pipeline.core.stored import stored_tensors

HEAD = "lm_head.weight"
EMBEDDING_ENDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
BLOCK_ROWS = 4096
"""Rows compared at once: the two matrices of a large model are gigabytes."""


def has_own_head(checkpoint: Path) -> bool:
    """Whether the safetensors files hold a head that is not equal to the embedding."""
    from safetensors import safe_open

    places = stored_tensors(checkpoint)
    embedding = next((name for name in places if name.endswith(EMBEDDING_ENDINGS)), None)
    if HEAD not in places:
        return False
    if embedding is None:
        return True
    with safe_open(places[HEAD], "pt") as one, safe_open(places[embedding], "pt") as other:
        head, embedded = one.get_slice(HEAD), other.get_slice(embedding)
        rows = head.get_shape()[0]
        if head.get_shape() != embedded.get_shape():
            return True
        return any(
            not head[first : first + BLOCK_ROWS].equal(embedded[first : first + BLOCK_ROWS])
            for first in range(0, rows, BLOCK_ROWS)
        )


def settle_head(checkpoint: Path) -> bool:
    """Makes the configuration say what the files hold; returns whether it had to be changed."""
    file = checkpoint / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if "tie_word_embeddings" in config and not config["tie_word_embeddings"]:
        return False
    if not has_own_head(checkpoint):
        return False
    config["tie_word_embeddings"] = False
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return True
