"""Disks, rows, processes and clocks that fail: each ends in recovery or in a clear error, and nothing is lost."""

import ast
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_recipes.question import Question
from data_recipes.sources import catalogue as sources
from pipeline.core.console import Progress
from pipeline.core.crew import Crew
from pipeline.core.disk import disk_fault
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.manifest import Manifest
from pipeline.engines import Completion, Sampling
from pipeline.steps.context import StageResult
from pipeline.steps.sampling import sample_in_shards

ROOT = Path(__file__).parents[2]

# Disks


def test_a_full_disk_in_a_stage_is_told_in_words_and_its_work_kept(ladder):
    def fills_up(ctx):
        (ctx.folder / "half").write_text("work")
        with open("/dev/full", "w") as file:  # a real ENOSPC
            file.write("x" * 10_000)

    ladder.bodies["r1_zero"] = fills_up
    with pytest.raises(RunError, match=r"disk is full.*MiB are free.*same command to go on"):
        ladder.run("r1_zero")
    assert not ladder.folder.stage("r1_zero").exists()
    del ladder.bodies["r1_zero"]
    assert ladder.run("r1_zero") == ["r1_zero"]
    assert (ladder.folder.stage("r1_zero") / "half").read_text() == "work"


def test_what_safetensors_and_torch_say_of_a_full_disk_is_understood(tmp_path):
    code = (
        "import resource, sys, torch; from safetensors.torch import save_file\n"
        "from pipeline.core.disk import disk_fault\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1)); tensors = {'weights': torch.zeros(100_000)}\n"
        "for save in (save_file, torch.save):\n"
        "    try: save(tensors, f'{sys.argv[1]}/{save.__name__}')\n"
        "    except Exception as error: print(disk_fault(error))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT).stdout.splitlines()
    assert len(said) == 2 and all("disk is full" in line for line in said), said


def test_an_error_that_is_not_the_disks_is_none_of_its():
    assert disk_fault(ValueError("no space in the template")) is None
    assert disk_fault(FileNotFoundError(2, "No such file")) is None


def pipeline_in(runs: Path, before: str, *arguments: str) -> subprocess.CompletedProcess:
    code = (
        f"import pathlib, resource, pipeline.runs.folder; pipeline.runs.folder.RUNS = pathlib.Path({str(runs)!r})\n"
        f"{before}\nimport sys; from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=900, cwd=ROOT
    )


def test_a_file_larger_than_is_allowed_stops_the_run_and_the_same_command_goes_on(tmp_path):
    command = ["run", "base_model", "--profile", "smoke", "--run", "full"]
    limited = pipeline_in(tmp_path, "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, -1))", *command)
    assert limited.returncode == 1, limited.stderr
    assert "Traceback" not in limited.stderr
    assert "disk is full, or a file is larger than is allowed" in " ".join(limited.stderr.split())
    assert not (tmp_path / "full" / "base_model").exists()
    again = pipeline_in(tmp_path, "", *command)
    assert again.returncode == 0, again.stderr
    assert pipeline_in(tmp_path, "", "verify", "full").returncode == 0


def test_a_folder_that_may_not_be_written_is_told_in_words():
    done = pipeline_in(Path("/sys"), "", "run", "base_model", "--profile", "smoke", "--run", "r1-ladder")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "do not allow" in done.stderr and "/sys/r1-ladder" in done.stderr


def test_a_full_shared_memory_is_named(monkeypatch, tmp_path):
    from pipeline.engines import EngineSettings
    from pipeline.engines.pool import EnginePool
    from tests.pipeline.engines.tiny import tiny_tokenizer

    def opened(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.engines.pool.open_engine", opened)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"No space left on device\. /dev/shm has \d+ MiB free: make room there"):
        EnginePool(EngineSettings(max_model_len=64)).serve(tmp_path, 0)


# Stage outputs


def flip(path: Path, place: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_damaged_input_is_not_read_and_can_be_made_anew(ladder):
    ladder.run("base_model")
    flip(ladder.folder.stage("base_model") / "checkpoint" / "weights")
    with pytest.raises(RunError, match=r"r1_zero reads base_model/checkpoint, which is damaged: checkpoint/weights"):
        ladder.run("r1_zero")
    assert ladder.ran == []
    shutil.move(ladder.folder.stage("base_model"), ladder.folder.path.parent / "away")
    assert ladder.run("r1_zero") == ["base_model", "r1_zero"]


def test_damage_to_what_a_stage_does_not_read_does_not_stop_it(ladder):
    ladder.run("base_model")
    flip(ladder.folder.stage("base_model") / "students" / "qwen")
    assert ladder.run("r1_zero") == ["r1_zero"]


@pytest.mark.parametrize("length", [0, 1, 200])
def test_a_truncated_manifest_is_named(ladder, length):
    ladder.run("base_model")
    path = ladder.folder.stage("base_model") / "manifest.json"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        ladder.states()


def test_every_flipped_bit_of_a_manifest_is_noticed_or_changes_nothing(ladder):
    ladder.run("base_model")
    folder = ladder.folder.stage("base_model")
    path, whole = folder / "manifest.json", Manifest.read(folder)
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data)
        flip(path, place)
        try:
            found = Manifest.read(folder)
        except RunError:
            continue
        assert found in (whole, whole.model_copy(update={"digest": None}))


def test_a_damaged_progress_note_only_costs_the_note(ladder):
    def interrupted(ctx):
        ctx.checkpointed(3, 10, "step")
        (ctx.folder / "progress.json").write_text('{"do')
        raise RunError("stop")

    ladder.bodies["r1_zero"] = interrupted
    with pytest.raises(RunError, match="stop"):
        ladder.run("r1_zero")
    assert ladder.reason("r1_zero") == "just begun"


def test_a_damaged_run_file_is_named(ladder):
    ladder.run("base_model")
    (ladder.folder.path / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        ladder.run("base_model")


def test_replaced_stages_never_overwrite_one_another(ladder):
    for rate in ("0.1", "0.2", "0.3"):
        ladder.overrides = [f"stages.r1_zero.grpo.learning_rate={rate}"]
        ladder.run("r1_zero")
    replaced = ladder.folder.path / ".replaced"
    shutil.rmtree(replaced / "r1_zero-1")
    ladder.overrides = ["stages.r1_zero.grpo.learning_rate=0.4"]
    ladder.run("r1_zero")
    assert {path.name for path in replaced.iterdir()} == {"r1_zero-2", "r1_zero-3"}


# Rows


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"question": "1+1?", "answer": "2"}\n{"question": "1+', "line 2: not valid JSON"),
        ('{"question": "1+1?", "answer": "2"}\n\x00\n', "line 2: not valid JSON"),
        ('{"question": "1+1?", "answer": "2"}\n{"qUestion": "1+1?", "answer": "2"}\n', "line 2"),
        ("\ufeff", "line 1"),
        ("", "holds no rows"),
    ],
)
def test_damaged_rows_are_named_by_file_and_line(tmp_path, text, part):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=part) as error:
        sources.load_finite(f"jsonl:{path}", {})
    assert str(path) in str(error.value)


def test_rows_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "\xff\xfe"}\n')
    with pytest.raises(ConfigError, match=r"rows\.jsonl is not UTF-8"):
        sources.load_finite(f"jsonl:{path}", {})


# Shards of samples

QUESTIONS = [Question(id=str(n), domain="d", question=f"{n}+1?", answer=str(n + 1), verifier="exact") for n in range(7)]


class Engine:
    """Draws what the seed and the prompt say, and remembers what it was asked."""

    def __init__(self):
        self.asked: list[list[str]] = []

    def generate(self, prompts, n, sampling, on_progress=None, on_group=None):
        self.asked.append(list(prompts))
        return [
            [
                Completion([len(prompt), number], f"{prompt} {sampling.seed} {number}", None, "stop")
                for number in range(n)
            ]
            for prompt in prompts
        ]


@pytest.fixture
def sampled(tmp_path):
    """Samples two shards of four and three questions; gives (engine, what came out, the shards' files)."""

    def sample():
        log = logging.getLogger("test faults")
        ctx = SimpleNamespace(
            folder=tmp_path, seed=3, log=log, checkpointed=lambda *_: None,
            progress=lambda what, total: Progress(what, total, log, quiet=True), crew=Crew(),
            together=lambda function, **arguments: function(ctx, **arguments),
        )  # fmt: skip
        engine = Engine()
        ctx.engines = SimpleNamespace(current=engine)
        prompts = [question.question for question in QUESTIONS]
        pairs = list(sample_in_shards(ctx, "samples", QUESTIONS, prompts, 2, Sampling(max_tokens=9), 4))
        return engine, pairs, sorted((tmp_path / "shards").glob("*.jsonl"))

    return sample


def test_finished_shards_are_read_back_and_not_sampled_again(sampled):
    first, pairs, _ = sampled()
    again, same, _ = sampled()
    assert [len(prompts) for prompts in first.asked] == [4, 3] and again.asked == []
    assert same == pairs
    assert [question.id for question, _ in pairs] == [question.id for question in QUESTIONS]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def lose_a_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def double_a_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines]))


def empty(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize("damage", [cut, lose_a_line, double_a_line, empty, lambda path: flip(path, 40)])
def test_a_damaged_shard_is_sampled_again_alone_and_draws_the_same(sampled, damage, caplog):
    _, pairs, files = sampled()
    damage(files[1])
    again, same, _ = sampled()
    assert [len(prompts) for prompts in again.asked] == [3]
    assert same == pairs
    assert "is damaged: it is sampled again" in caplog.text


# Clocks


def reads_the_wall_clock(path: Path) -> list[str]:
    """Places in a file that call `time.time`, `datetime.now` or the like."""
    names = {("time", "time"), ("time", "localtime"), ("datetime", "now"), ("datetime", "today"), ("date", "today")}
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in names:
            found.append(f"{path}:{node.lineno}")
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"{path}:{node.lineno}" for name in node.names if name.name == "time"]
    return found


def test_nothing_here_measures_time_with_a_clock_that_can_jump():
    sources = [
        file for folder in ("pipeline", "rewards", "data_recipes", "stages") for file in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 80
    assert [place for file in sources for place in reads_the_wall_clock(file)] == []


def test_a_clock_that_jumps_does_not_disturb_a_stage(ladder, monkeypatch):
    import itertools
    import time

    jumps = itertools.cycle([0.0, 4e9, -5.0, 1.7e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    assert ladder.run("r1_zero") == ["base_model", "r1_zero"]
    assert 0 <= Manifest.read(ladder.folder.stage("r1_zero")).wall_seconds < 60


def test_the_manifest_is_json_that_any_tool_reads(ladder):
    def odd(ctx):
        (ctx.folder / "out").write_text("x")
        return StageResult(outputs=["out"], metrics={"loss": float("nan"), "名": "值"})

    ladder.bodies["base_model"] = odd
    ladder.run("base_model")
    found = json.loads((ladder.folder.stage("base_model") / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert found["metrics"] == {"loss": None, "名": "值"}
