"""The table of an RL stage under way."""

import re

from pipeline.steps.step_table import COLUMNS, ROWS_A_HEADING, StepTable

FIGURES = {
    "reward": 1.03,
    "rewards": {"accuracy": 0.21, "format": None},
    "completion_tokens": 14.2,
    "rollout_tokens": 1000,
    "seconds_step": 0.5,
    "share_rollout": 0.6,
    "share_scoring": 0.01,
    "share_update": 0.39,
    "update_flop_utilisation": 0.58,
}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def climb(total: int, seconds_a_step: float, first: int = 1, **settings) -> list[str]:
    said, clock = [], Clock()
    table = StepTable(total, said.append, clock=clock, **settings)
    for step in range(first, total + 1):
        table.step({"step": step, **FIGURES})
        clock.now += seconds_a_step
    return said


def rows(said: list[str]) -> list[str]:
    return [line for line in said if not line.startswith("step")]


def test_first_and_last_step_are_always_said():
    said = rows(climb(total=50, seconds_a_step=0.01))
    assert [line.split()[0] for line in said] == ["1/50", "50/50"]


def test_rows_come_no_more_often_than_asked():
    said = rows(climb(total=100, seconds_a_step=1.0, every_seconds=10))
    assert [line.split()[0] for line in said[:3]] == ["1/100", "11/100", "21/100"]


def test_heading_comes_back_so_that_a_screenful_has_one():
    said = climb(total=3 * ROWS_A_HEADING, seconds_a_step=20.0)
    assert [i for i, line in enumerate(said) if line.startswith("step")] == [
        0,
        ROWS_A_HEADING + 1,
        2 * ROWS_A_HEADING + 2,
    ]


def test_columns_line_up_and_fit_a_terminal():
    said = climb(total=10_400, seconds_a_step=500.0, first=10_390)
    assert {len(line) for line in said} == {sum(width for _, width in COLUMNS)}
    assert len(said[0]) <= 80
    assert all(line.isprintable() for line in said)


def test_figures_of_a_row():
    line = climb(total=20, seconds_a_step=20.0)[2]
    assert line.split() == ["2/20", "1.030", "0.210", "–", "14.2", "2,000", "60/1/39", "58%", "0:06:00"]


def test_time_left_of_a_resumed_run_goes_by_its_own_pace():
    line = climb(total=100, seconds_a_step=60.0, first=90)[2]
    assert re.search(r"91/100 .* 0:09:00$", line)
