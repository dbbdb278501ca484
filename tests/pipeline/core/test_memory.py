"""The memory of a stage is its own."""

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


def test_a_stage_is_not_charged_for_the_one_before_it(ladder):
    def holds(ctx):
        hold()
        (ctx.folder / "checkpoint").mkdir()
        return StageResult(outputs=["checkpoint"])

    ladder.bodies["base_model"] = holds
    ladder.run("r1_zero")
    first, second = (Manifest.read(ladder.folder.stage(stage)).peak_memory_bytes for stage in ("base_model", "r1_zero"))
    assert second <= first - HELD // 2
