"""Models in shards over two processes: a step, what is handed over and what is saved are one process's.

`make prove-sharding` tries many more cases. One launch of two processes serves all tests here.
"""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from benchmarks.sharding import (
    BOUND,
    HELD,
    MOST_HELD,
    difference,
    held_shares,
    job,
    launch,
    make_models,
    run_jobs,
    without_first_step,
)

NAMES = [
    "KL, Adam",
    "all groups flat, weight decay",
    "dapo, untied head, Adam",
    "adapters, KL",
    "SFT",
    "SFT, adapters",
    "reward model",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """`1/` and `2/`: what one process and two give, a file a case; `resumed` is of SFT that was cut off after a step on
    the other number of processes."""
    folder = tmp_path_factory.mktemp("sharding")
    make_models(folder, NAMES)
    (folder / "1").mkdir()
    begun = {count: {"trained_in": str(folder / f"begun on {count}"), "until": 1} for count in (1, 2)}
    ended = {count: {**begun[count], "until": 2, "called": "resumed"} for count in (1, 2)}
    run_jobs([job(name, folder, 1) for name in [*NAMES, HELD]], folder / "1")
    run_jobs([job("SFT", folder, 1, **begun[1])], folder / "1")
    both = [job("SFT", folder, 2, **begun[2]), job("SFT", folder, 2, **ended[1])]
    launch([job(name, folder, 2) for name in [*NAMES, HELD]] + both, folder / "2", timeout_s=900)
    run_jobs([job("SFT", folder, 1, **ended[2])], folder / "1")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_give_what_one_gives(results, name):
    """With unequal numbers of micro-batches, which would make the processes wait for each other forever."""
    error, where = difference(results / "1" / f"{name}.safetensors", results / "2" / f"{name}.safetensors")
    assert error <= BOUND, where


@pytest.mark.parametrize("ended_on", ["1", "2"])
def test_a_training_goes_on_with_another_number_of_processes(results, ended_on):
    undisturbed = without_first_step(results / "1" / "SFT.safetensors")
    error, where = difference(undisturbed, results / ended_on / "resumed.safetensors")
    assert error <= BOUND, where


@pytest.mark.parametrize(("name", "model"), [("SFT", "qwen3"), ("SFT, adapters", "qwen3")])
def test_a_saved_checkpoint_is_a_plain_one(results, name, model):
    """Names and shapes are the base's: a tied head is there once."""
    checkpoint = results / "2" / str(NAMES.index(name)) / "checkpoint"
    saved, base = (load_file(folder / "model.safetensors") for folder in (checkpoint, results / model))
    assert {key: tensor.shape for key, tensor in saved.items()} == {key: tensor.shape for key, tensor in base.items()}
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert type(loaded).__name__ == "Qwen3ForCausalLM"
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_adapters_are_saved_beside(results):
    folder = results / "2" / str(NAMES.index("SFT, adapters")) / "adapter"
    ours, theirs = (
        load_file(results / count / str(NAMES.index("SFT, adapters")) / "adapter" / "adapter_model.safetensors")
        for count in "21"
    )
    assert ours.keys() == theirs.keys() and (folder / "adapter_config.json").is_file()
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).norm() <= BOUND * tensor.norm() + 1e-9, name


def test_two_shards_hold_half_of_weights_and_optimizer_each(results):
    held, _ = held_shares(*(results / count / f"{HELD}.safetensors" for count in "12"))
    assert held <= MOST_HELD
