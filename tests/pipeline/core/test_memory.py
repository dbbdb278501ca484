"""The memory of a stage is its own."""

import subprocess
import sys

import pytest

from pipeline.core import memory
from pipeline.core.manifest import Manifest
from pipeline.core.memory import forget_peak, peak
from pipeline.steps.context import StageResult

HELD = 200 << 20


def hold() -> None:
    bytearray(b"x") * HELD


def test_what_was_held_before_does_not_count():
    hold()
    assert peak() >= HELD
    before = peak()
    forget_peak()
    assert peak() <= before - HELD // 2


@pytest.mark.parametrize("status", [None, "Name: python\n"], ids=["no such file", "no such line"])
def test_where_the_kernel_does_not_tell_the_whole_life_of_the_process_counts(tmp_path, monkeypatch, status):
    hold()
    file = tmp_path / "status"
    if status is not None:
        file.write_text(status)
    monkeypatch.setattr(memory, "_STATUS", file)
    assert peak() >= HELD


def test_a_stage_is_not_charged_for_the_one_before_it(ladder):
    def holds(ctx):
        hold()
        (ctx.folder / "checkpoint").mkdir()
        return StageResult(outputs=["checkpoint"])

    ladder.bodies["base_model"] = holds
    ladder.run("r1_zero")
    first, second = (Manifest.read(ladder.folder.stage(stage)).peak_memory_bytes for stage in ("base_model", "r1_zero"))
    assert second <= first - HELD // 2


LEFT_BEHIND = """
import gc
from pathlib import Path
from pipeline.core.memory import release_memory

def resident():
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])

class Trainer:
    pass

gc.disable()
trainer, others = Trainer(), []
trainer.callbacks, trainer.freed_later = [trainer], []
for _ in range(3200):  # small enough for the heap, with something that stays between them
    trainer.freed_later.append(bytearray(b"x") * (64 << 10))
    others.append(bytearray(b"x") * 4096)
del trainer
before = resident()
release_memory()
print(before - resident())
"""


def test_what_a_training_left_behind_goes_back_to_the_system():
    """Held by a cycle, and then freed in pieces all over the heap: 200 MiB."""
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 150 << 20
