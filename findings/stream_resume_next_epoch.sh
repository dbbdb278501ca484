#!/usr/bin/env bash
# datasets 5.2.0: a stream that was resumed with load_state_dict() leaves out the same first rows in every later epoch too,
# unless set_epoch() is called. Nothing warns; the rows before the checkpoint are never trained on again.
#
# Guess beforehand: the state is used for the epoch that it was saved in, and the next pass gives all rows. Seen: the state
# stays, and each new iteration starts from it for as long as the stream's epoch number is that of the checkpoint. Whoever
# shuffles nothing has no reason to call set_epoch().
# Way round: call set_epoch(number) at the start of each epoch, shuffled or not.
#
#     bash findings/stream_resume_next_epoch.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0
cat > "$folder/epochs.py" <<'PYTHON'
import itertools
import sys

import datasets


def stream():
    return datasets.Dataset.from_dict({"row": list(range(8))}).to_iterable_dataset(num_shards=2)


def epochs(numbered):
    """The rows of three epochs, of which the first is resumed after five rows."""
    cut = stream()
    list(itertools.islice(cut, 5))
    resumed = stream()
    resumed.load_state_dict(cut.state_dict())
    seen = []
    for epoch in range(3):
        if numbered:
            resumed.set_epoch(epoch)
        seen.append([example["row"] for example in resumed])
    return seen


print("datasets", datasets.__version__)
plain, numbered = epochs(numbered=False), epochs(numbered=True)
print("without set_epoch:", plain)
print("with set_epoch:   ", numbered)
rest, whole = [5, 6, 7], list(range(8))
sys.exit(0 if plain == [rest] * 3 and numbered == [rest, whole, whole] else "the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/epochs.py"
