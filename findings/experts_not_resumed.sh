#!/usr/bin/env bash
# transformers 5.17.0: a Trainer that resumes a mixture of experts goes on with the experts that the model was started
# with, and not with those of the checkpoint; a warning tells of missing and unexpected keys. All other weights are loaded.
#
# Guess beforehand: resuming gives the model all weights of its checkpoint. Seen: save_pretrained stores experts one by
# one under the published names, the running model has them in one tensor a projection, and the Trainer passes the file
# to load_state_dict(strict=False) without the conversion that from_pretrained makes.
#
#     bash findings/experts_not_resumed.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.17.0 accelerate==1.15.0
cat > "$folder/resume.py" <<'PYTHON'
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, Trainer, TrainingArguments

CONFIG = Qwen3MoeConfig(
    vocab_size=32, hidden_size=16, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4, num_experts_per_tok=2,
)
ROWS = [{"input_ids": [1, 2, 3, 4 + n], "labels": [1, 2, 3, 4 + n]} for n in range(8)]


def trainer(folder):
    torch.manual_seed(0)
    arguments = TrainingArguments(
        folder, max_steps=2, save_steps=2, per_device_train_batch_size=4, learning_rate=0.01, use_cpu=True,
        report_to=[], disable_tqdm=True, logging_strategy="no",
    )
    return Trainer(Qwen3MoeForCausalLM(CONFIG), args=arguments, train_dataset=ROWS)


with tempfile.TemporaryDirectory() as folder:
    first = trainer(folder)
    started = {name: weight.detach().clone() for name, weight in first.model.named_parameters()}
    first.train()
    second = trainer(folder)
    second.train(resume_from_checkpoint=f"{folder}/checkpoint-2")  # nothing is left to train
    saved = dict(AutoModelForCausalLM.from_pretrained(f"{folder}/checkpoint-2").named_parameters())

print("transformers", transformers.__version__, "torch", torch.__version__)
for name, weight in second.model.named_parameters():
    of = "the checkpoint" if torch.equal(weight, saved[name]) else "the start" if torch.equal(weight, started[name]) else "?"
    print(f"{name}: of {of}")
    if (of == "the start") != (".experts." in name):
        sys.exit("this behaviour has changed")
print("The experts of the checkpoint are not loaded.")
PYTHON
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/resume.py"
