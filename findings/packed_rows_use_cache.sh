#!/usr/bin/env bash
# transformers 5.17.0: rows laid end to end with position ids that start anew at each row are kept apart by sdpa and eager
# attention only with use_cache=False. With the default, use_cache=True, every row attends to the rows before it.
#
# Guess beforehand: whether keys and values are kept does not change what a row sees. Seen: the mask looks for packed rows
# only where no cache object is passed, and the model makes one for itself when use_cache is True, in train mode too. The
# loss still falls. It hurts training loops and log-probability passes of one's own on packed rows; transformers' Trainer
# and gradient checkpointing switch the cache off.
# Way round: pass use_cache=False to each packed forward pass.
#
#     bash findings/packed_rows_use_cache.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.17.0
cat > "$folder/packed.py" <<'PYTHON'
import sys

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM, set_seed

SIZES = dict(
    vocab_size=32, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, head_dim=16, initializer_range=0.2,
)


def differences(attention):
    """Largest difference of a row's logits, packed behind another row against alone, by value of use_cache."""
    set_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES, attn_implementation=attention)).train()
    first, second = torch.randint(0, 32, (1, 12)), torch.randint(0, 32, (1, 20))
    packed = torch.cat([first, second], 1)
    positions = torch.cat([torch.arange(12), torch.arange(20)])[None]
    found = {}
    with torch.no_grad():
        alone = model(second).logits
        for use_cache in (None, True, False):
            chosen = {} if use_cache is None else {"use_cache": use_cache}
            logits = model(packed, position_ids=positions, **chosen).logits[:, 12:]
            found[use_cache] = (logits - alone).abs().max().item()
    print(f"{attention}: default {found[None]:.1e}, use_cache=True {found[True]:.1e}, use_cache=False {found[False]:.1e}")
    return found


print("transformers", transformers.__version__, "torch", torch.__version__)
found = [differences(attention) for attention in ("sdpa", "eager")]
known = all(each[None] > 0.1 and each[True] > 0.1 and each[False] < 1e-4 for each in found)
sys.exit(0 if known else "the behaviour has changed")
PYTHON
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/packed.py"
