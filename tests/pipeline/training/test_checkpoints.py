"""Trainer checkpoints that were cut off, truncated, flipped by a bit or robbed of a file."""

import logging

import pytest

from pipeline.core.console import LOGGER
from pipeline.core.errors import RunError
from pipeline.training.checkpoints import WRITING, finish_checkpoint, last_checkpoint


@pytest.fixture(autouse=True)
def heard(caplog):
    """The ladder's logger, which does not pass its records on once a run has set it up."""
    logging.getLogger(LOGGER).addHandler(caplog.handler)
    yield
    logging.getLogger(LOGGER).removeHandler(caplog.handler)


def write(trainer, step, keep=2):
    folder = trainer / WRITING / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 16)
    (folder / "trainer_state.json").write_text("{}")
    return finish_checkpoint(trainer, step, keep)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[100 % len(content)] ^= 1
    file.write_bytes(content)


def remove(file):
    file.unlink()


def names(trainer):
    return {path.name for path in trainer.glob("checkpoint-*")}


def test_nothing_written_is_nothing_to_resume_from(tmp_path):
    assert last_checkpoint(tmp_path / "never made") is None
    (tmp_path / WRITING / "checkpoint-9").mkdir(parents=True)
    assert last_checkpoint(tmp_path) is None


def test_the_newest_checkpoints_are_kept_by_number_and_not_by_name(tmp_path):
    for step in (8, 9, 10, 100):
        write(tmp_path, step)
    assert names(tmp_path) == {"checkpoint-10", "checkpoint-100"}
    assert last_checkpoint(tmp_path).name == "checkpoint-100"


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, remove])
@pytest.mark.parametrize("name", ["model.safetensors", "hashes.json"])
def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_it_used(tmp_path, caplog, harm, name):
    write(tmp_path, 2)
    harm(write(tmp_path, 4) / name)
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
    assert "checkpoint-4/" in caplog.text and "Going on from" in caplog.text
    assert (tmp_path / "damaged" / "checkpoint-4").is_dir()
    write(tmp_path, 4)
    assert last_checkpoint(tmp_path).name == "checkpoint-4"


def test_the_warning_has_the_expected_and_the_found_hash(tmp_path, caplog):
    from pipeline.core.files import hash_file

    write(tmp_path, 2)
    file = write(tmp_path, 4) / "model.safetensors"
    expected = hash_file(file)
    flip_a_bit(file)
    last_checkpoint(tmp_path)
    assert expected in caplog.text
    assert hash_file(tmp_path / "damaged" / "checkpoint-4" / "model.safetensors") in caplog.text


def test_when_all_are_damaged_their_owner_is_asked(tmp_path):
    for step in (2, 4):
        flip_a_bit(write(tmp_path, step) / "model.safetensors")
    for _ in range(2):  # the second start must not silently train from the beginning either
        with pytest.raises(RunError, match=r"No checkpoint in .* is sound.*damaged"):
            last_checkpoint(tmp_path)
    assert {path.name for path in (tmp_path / "damaged").iterdir()} == {"checkpoint-2", "checkpoint-4"}


def test_a_truncated_checkpoint_does_not_count_among_those_to_keep(tmp_path):
    write(tmp_path, 2)
    truncate(write(tmp_path, 4) / "model.safetensors")
    write(tmp_path, 6)
    assert names(tmp_path) == {"checkpoint-2", "checkpoint-6"}


def test_the_only_good_one_is_never_deleted(tmp_path):
    """Whatever stops the next save, before its rename or after, a sound checkpoint is there."""
    write(tmp_path, 2, keep=1)
    (tmp_path / WRITING / "checkpoint-4").mkdir(parents=True)
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
    (tmp_path / WRITING / "checkpoint-4").rmdir()
    write(tmp_path, 4, keep=1)
    assert names(tmp_path) == {"checkpoint-4"}
    assert last_checkpoint(tmp_path).name == "checkpoint-4"
