"""Everything that is printed in columns can be read at 80 columns and at 60."""

import json
import re

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.checks.data import data_table
from pipeline.checks.models import memory_table, models_table
from pipeline.checks.profile import arithmetic_table, rewards_table
from pipeline.config.loading import load_profile
from pipeline.core.console import bar_columns, shortened
from pipeline.core.tables import fitted
from pipeline.ladder import LADDER
from pipeline.report.claim import claims_table
from pipeline.report.claims import judge_run
from pipeline.report.compare import config_differences, differences_table, result_rows, results_table
from pipeline.report.records import RunRecord
from pipeline.runs.runner import stage_states
from pipeline.runs.summary import ladder_table, status_table
from pipeline.tools import lm_eval
from rewards.own.check import rows_table
from tests.pipeline.report.run_folders import CONFIGS, make_run, smoke_profile


def cells_of(table: Table) -> set[str]:
    """Every word that the table is to show."""
    texts = [str(cell) for column in table.columns for cell in column.cells]
    return {word for text in texts for word in text.split()}


def lines_at(table: Table, width: int, keys: int = 1) -> list[str]:
    return fitted(table, Console(width=width, markup=False, emoji=False, highlight=False), keys)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Name -> (table, columns that name a row), of a whole run and of profiles small and large."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("run")
    (folder / "configs").symlink_to(CONFIGS)
    patch.chdir(folder)
    profile, other = smoke_profile(), smoke_profile("stages.r1_zero.grpo.learning_rate=1e-5", seed=1)
    run = make_run("smoke", profile)
    make_run("smoke-seed1", other)
    runs = [RunRecord.as_made(name) for name in ("smoke", "smoke-seed1")]
    results = json.loads((run.stage("evaluate") / "results.json").read_text(encoding="utf-8"))["results"]
    verdicts = ["RIGHT", "", "GOLD_UNUSABLE"]
    tried = rows_table(
        "a/folder/mine.py:brevity", ["7 × 6 = 42 " * 9] * 3, [1.0, None, 0.25], verdicts, [0.1, 12.0, 3.0]
    )
    scored = {"arc_challenge": {"acc_norm,none": 0.2514, "acc_norm_stderr,none": 0.0127}}
    found = {
        "status": (status_table(run, stage_states(other, run)), 1),
        "ladder": (ladder_table(profile, results), 1),
        "claims": (claims_table({"seed 0": judge_run(profile, run), "together": judge_run(profile, run)}), 1),
        "differences": (differences_table(runs, config_differences(runs)), 2),
        "compared": (results_table(runs, result_rows(runs)), 2),
        "lm-eval": (lm_eval.results_table(scored, "distill/students/qwen"), 3),
        "check-reward": (tried, 1),
    }
    for name in ("pocket", "qwen2.5-1.5b"):
        profile = load_profile(name, ["made_for={gpus: 1, gib: 24}"]).profile
        found |= {
            f"{name} models": (models_table(profile), 1),
            f"{name} memory": (memory_table(profile), 2),
            f"{name} arithmetic": (arithmetic_table(profile, 1), 2),
        }
    pocket = load_profile("pocket").profile
    found |= {"questions": (data_table(pocket), 1), "rewards": (rewards_table(pocket)[0], 2)}
    patch.undo()
    return found


NAMES = [
    "status", "ladder", "claims", "differences", "compared", "lm-eval", "check-reward", "questions", "rewards",
    "pocket models", "pocket memory", "pocket arithmetic", "qwen2.5-1.5b models", "qwen2.5-1.5b memory",
    "qwen2.5-1.5b arithmetic",
]  # fmt: skip


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("name", NAMES)
def test_a_table_keeps_every_word_whole_and_within_the_terminal(tables, name, width):
    table, keys = tables[name]
    lines = lines_at(table, width, keys)
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    shown = set(re.sub(r"[│┃┏┓┗┛┡┩└┘├┤┼─━╇┳┻╋┴┬]", " ", "\n".join(lines)).split())
    lost = {word for word in cells_of(table) if word not in shown and len(word) <= 24}
    assert not lost, lost


def test_every_table_of_ours_is_among_them(tables):
    assert set(NAMES) == set(tables)


@pytest.mark.parametrize("width", [80, 60])
def test_columns_that_find_no_room_follow_below_with_the_rows_named_again(width):
    table = Table("rung", *(f"figure {number}" for number in range(9)))
    for row in ("base", "R1-Zero", "qwen distilled"):
        table.add_row(row, *("12.3–45.6" for _ in range(9)))
    lines = lines_at(table, width)
    heads = [line for line in lines if "rung" in line]
    assert len(heads) > 1 and len(heads) == sum("R1-Zero" in line for line in lines)
    assert sum(line.count("12.3–45.6") for line in lines) == 27


def test_a_column_in_which_nothing_stands_is_left_out():
    table = Table("name", "note", "size")
    table.add_row("one", "", "12")
    table.add_row("two", "", "13")
    printed = "\n".join(lines_at(table, 80))
    assert "note" not in printed and "13" in printed
    assert "note" in "\n".join(lines_at(Table("name", "note"), 80))


def test_a_word_that_no_terminal_holds_is_folded_and_not_lost():
    table = Table("key", "path")
    table.add_row("a", "x" * 150)
    assert sum(line.count("x") for line in lines_at(table, 60)) == 150


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_shows_count_and_time_left(width):
    console = Console(width=width, force_terminal=True, color_system=None)
    bar = Progress(*bar_columns(width), console=console)
    for description in ("evaluate: sampling qwen distilled-reasoning", "sft: fine-tuning"):
        bar.add_task(
            shortened(description, width), total=12_000, completed=11_999, counted="11999/12000", left="10:00:00 left",
            figures="loss 0.123",
        )  # fmt: skip
    with console.capture() as captured:
        console.print(bar.get_renderable())
    lines = captured.get().splitlines()
    assert len(lines) == 2
    assert all("11999/12000" in line and "10:00:00 left" in line and len(line.rstrip()) <= width for line in lines)


def test_stage_names_are_all_known_to_the_status(tables):
    table, _ = tables["status"]
    assert [str(cell) for cell in table.columns[0].cells] == [stage.id for stage in LADDER]
