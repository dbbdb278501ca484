#!/usr/bin/env bash
# transformers 5.17.0: a run with train_sampling_strategy="group_by_length" that is resumed inside its second epoch trains
# on some rows twice in that epoch, and never on others. With "random" it goes on with the rows that were due.
#
# Guess beforehand: a resumed Trainer skips the batches that were done, whatever the strategy. Seen: LengthGroupedSampler
# draws its order from torch's global generator when the epoch starts; a resumed run starts the epoch before the random
# state of the checkpoint is restored, so the order, and what is skipped of it, is another.
#
#     bash findings/group_by_length_resume.sh
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
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

LENGTHS = [3, 9, 4, 8, 5, 7, 6, 10] * 2


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, row):
        return {"input_ids": [row] * LENGTHS[row]}


def train(folder, strategy, steps=-1, resume=None):
    """The rows of each batch that was trained on: 8 batches an epoch, two epochs, a checkpoint every 3."""
    seen = []

    def collate(rows):
        seen.append([row["input_ids"][0] for row in rows])
        ids = pad_sequence([torch.tensor(row["input_ids"]) for row in rows], batch_first=True)
        return {"input_ids": ids, "labels": ids}

    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=2, num_train_epochs=2, max_steps=steps, save_steps=3, report_to=[],
        disable_tqdm=True, use_cpu=True, logging_strategy="no", train_sampling_strategy=strategy,
    )
    Trainer(model=model, args=arguments, train_dataset=Rows(), data_collator=collate).train(resume_from_checkpoint=resume)
    return seen


def twice(strategy):
    """Rows that the second epoch trains on twice when it is stopped and resumed after its fourth batch."""
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
        straight = train(whole, strategy)
        train(cut, strategy, steps=12)
        resumed = train(cut, strategy, resume=f"{cut}/checkpoint-12")
    rows = [row for batch in straight[8:12] + resumed[-4:] for row in batch]
    print(f"{strategy}: due {straight[12:]}, trained on {resumed[-4:]}", file=sys.stderr)
    return sorted({row for row in rows if rows.count(row) > 1})


print("transformers", transformers.__version__, "torch", torch.__version__)
found = {strategy: twice(strategy) for strategy in ("random", "group_by_length")}
print("rows trained on twice in the second epoch:", found)
sys.exit(0 if not found["random"] and found["group_by_length"] else "the behaviour has changed")
PYTHON
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" "$folder/resume.py"
