#!/usr/bin/env bash
# reasoning-gym 0.1.25: making a question of `pool_matrix` seeds numpy's global generator, so whatever else draws from it in
# that process (a shuffle of rows, a choice of prompts, augmentation) starts anew, with the same numbers each time.
#
# Guess beforehand: a data set with a seed of its own draws from a generator of its own. Seen: so does each of the other
# tasks tried here; `pool_matrix` calls numpy.random.seed(seed + index). Two runs with different seeds then draw alike, and a
# loop that makes a question and shuffles with numpy repeats one shuffle for ever.
# Way round: draw from numpy.random.default_rng(seed), or keep numpy.random.get_state() around the call and set it again.
#
#     bash findings/numpy_seed_pool_matrix.sh
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet reasoning-gym==0.1.25 numpy==2.3.5
cat > "$folder/draws.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy
import reasoning_gym

TASKS = ("chain_sum", "rotate_matrix", "spiral_matrix", "binary_matrix", "manipulate_matrix", "pool_matrix")


def draws(task, seed):
    """What a run that is seeded with `seed` draws for itself after it made one question."""
    numpy.random.seed(seed)
    reasoning_gym.create_dataset(task, size=1, seed=5)[0]
    return numpy.random.permutation(8).tolist()


print("reasoning-gym", version("reasoning-gym"), "numpy", numpy.__version__)
alike = []
for task in TASKS:
    first, second = draws(task, 1), draws(task, 2)
    print(f"{task}: seed 1 shuffles {first}, seed 2 shuffles {second}")
    if first == second:
        alike.append(task)
print("runs of different seeds draw alike after:", alike)
sys.exit(0 if alike == ["pool_matrix"] else "the behaviour has changed")
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/draws.py"
