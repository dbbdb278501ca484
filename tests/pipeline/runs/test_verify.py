"""`verify` finds every file that is not what was written, and tells what has merely moved on from what is damaged."""

import json

import pytest

from pipeline.core.manifest import Manifest
from pipeline.runs.folder import RunFolder
from pipeline.runs.verify import verify_run


@pytest.fixture
def verify(ladder):
    """(exit code, lines) of verifying the run against the profile as it now is."""

    def verified() -> tuple[int, list[str]]:
        lines: list[str] = []
        code = verify_run(RunFolder.existing("test"), ladder.profile, lines.append)
        return code, lines

    ladder.run()
    return verified


def damage(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if "damage:" in line]


def drift(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if "drift:" in line]


def test_an_untouched_run_is_intact(verify):
    code, lines = verify()
    assert code == 0
    assert not damage(lines) and not drift(lines)
    assert "Every file is what its manifest says." in lines


def test_a_flipped_bit_is_named_with_its_file(verify, ladder):
    path = ladder.folder.stage("sft") / "checkpoint" / "weights"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    code, lines = verify()
    assert code == 1
    [found] = damage(lines)
    assert "checkpoint/weights was changed" in found
    assert lines[lines.index(f"  {found}") - 1].startswith("sft: 1 DAMAGED")


def test_records_are_hashed_too(verify, ladder):
    with (ladder.folder.stage("r1_zero") / "log.txt").open("a") as file:
        file.write("a line more\n")
    code, lines = verify()
    assert code == 1 and "log.txt was changed" in damage(lines)[0]


def test_a_missing_and_an_added_file_are_told_apart(verify, ladder):
    folder = ladder.folder.stage("distill") / "students"
    (folder / "qwen").rename(folder / "other")
    code, lines = verify()
    assert code == 1
    assert [line.partition("damage: ")[2] for line in damage(lines)] == [
        "students/qwen is missing", "students/other was added",
    ]  # fmt: skip


def test_a_stage_without_its_manifest_is_damage(verify, ladder):
    (ladder.folder.stage("sft") / "manifest.json").unlink()
    code, lines = verify()
    assert code == 1 and "manifest.json is missing" in damage(lines)[0]


@pytest.mark.parametrize("key", ["metrics", "tokens", "seed", "code", "config", "wall_seconds"])
def test_a_changed_manifest_is_damage_whatever_changed_in_it(verify, ladder, key):
    path = ladder.folder.stage("sft") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[key] = manifest[key] + 1 if isinstance(manifest[key], int | float) else {**manifest[key], "x": 1}
    path.write_text(json.dumps(manifest))
    code, lines = verify()
    assert code == 1 and "manifest.json is damaged" in damage(lines)[0]


def test_other_code_and_packages_are_drift_and_no_damage(verify, monkeypatch):
    monkeypatch.setattr("pipeline.runs.verify.code_version", lambda: {"commit": "f" * 40, "dirty": True})
    monkeypatch.setattr("pipeline.runs.verify.package_versions", lambda: {"torch": "9.9"})
    code, lines = verify()
    assert code == 0
    assert any("now ffffffffffff + changes" in line for line in drift(lines))
    assert any("package torch" in line and "9.9" in line for line in drift(lines))


def test_another_configuration_is_drift_of_its_stage_alone(verify, ladder):
    ladder.overrides = ["stages.sft.sft.epochs=7"]
    code, lines = verify()
    assert code == 0
    [found] = drift(lines)
    assert "stage.sft.epochs (2 -> 7)" in found


def test_an_input_that_was_made_again_is_drift(verify, ladder):
    manifest = Manifest.read(ladder.folder.stage("sft"))
    manifest.model_copy(update={"outputs": {"checkpoint/weights": "0" * 64}}).write(ladder.folder.stage("sft"))
    _, lines = verify()
    assert any("input sft was made again since" in line for line in drift(lines))


def test_unfinished_stages_are_no_damage(ladder):
    ladder.run("r1_zero")
    lines: list[str] = []
    assert verify_run(ladder.folder, None, lines.append) == 0
    assert "sft: not finished" in lines
