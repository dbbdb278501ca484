"""What the page says at its top, what it calls its sections, and that no line of its picture runs over a rung."""

import math
import random
import re

import pytest

from pipeline.config.loading import load_profile
from pipeline.ladder import STAGES
from pipeline.report import RunRecord, write_report
from pipeline.report.claim import counted
from pipeline.report.claims import verdicts
from pipeline.report.ladder import measured_rungs
from pipeline.report.picture import CLEAR, HEIGHT, TOP, picture
from tests.pipeline.report.run_folders import make_run, smoke_profile
from tests.pipeline.report.test_report import text_of


@pytest.fixture
def page(home):
    def written(upto=None, **settings) -> tuple[RunRecord, str]:
        profile = smoke_profile(*settings.pop("overrides", ()))
        run = make_run("smoke", profile, **({"upto": upto} if upto else {}))
        record = RunRecord.of_folder(profile, run)
        write_report(record, run.path / "report.html")
        return record, (run.path / "report.html").read_text(encoding="utf-8")

    return written


def test_the_top_says_what_was_run_how_long_it_took_and_what_came_out(page):
    record, html = page()
    [headline] = re.findall(r'<p class="headline">(.*?)</p>', html, re.DOTALL)
    results = record.results()
    for rung in ("base", "R1-Zero", "R1"):
        assert f"{rung} {100 * results[rung]['reasoning']['pass@1']:.1f}" in headline
    assert f"distilled {100 * results['qwen distilled']['reasoning']['pass@1']:.1f}" in headline
    assert headline.startswith("12 stages in ") and "one seed" in headline
    assert counted(verdicts(record)) in headline


def test_the_top_of_an_unfinished_run_counts_its_stages(page):
    _, html = page(upto="r1_zero")
    assert '<p class="headline">2 of 12 stages in ' in html


@pytest.mark.parametrize(("questions", "warns"), [(8, True), (29, True), (30, False)])
def test_few_questions_are_told_to_mean_nothing(page, questions, warns):
    overrides = [f"stages.evaluate.sets.reasoning.questions={questions}"]
    _, html = page(overrides=overrides)
    assert ("no figure of this page says anything about a model" in html) is warns


def test_headings_do_not_call_our_stages_by_the_papers_models(page):
    _, html = page()
    headings = [text_of(h).strip() for h in re.findall(r"<h3[^>]*>(.*?)<span", html, re.DOTALL)]
    assert "qwen RL" in headings and "rejection sampling" in headings
    assert not {STAGES["student_rl"].paper_name, STAGES["rejection_sampling"].paper_name} & set(headings)
    assert "the paper has Qwen-32B-Zero in this place" in text_of(html)


def points(path: str) -> list[tuple[float, float]]:
    x1, y1, cx, cy, x2, y2 = (float(number) for number in re.findall(r"-?\d+\.?\d*", path))
    steps = [n / 80 for n in range(81)]
    return [
        ((1 - t) ** 2 * x1 + 2 * t * (1 - t) * cx + t**2 * x2, (1 - t) ** 2 * y1 + 2 * t * (1 - t) * cy + t**2 * y2)
        for t in steps
    ]


def test_no_line_of_the_picture_runs_over_a_rung_that_it_does_not_join(page):
    record, _ = page()
    rungs = measured_rungs(record, "reasoning")
    near = 0
    for seed in range(15):
        rng = random.Random(seed)
        for rung in rungs:
            value = rng.choice([0.0, rng.random(), rng.random(), 1.0])
            rung.figures.update({"pass@1": value, "low": value, "high": value})
        ours = picture(rungs)["ours"]
        for edge in ours["edges"]:
            curve = points(edge["path"])
            assert all(-1 <= y <= TOP + HEIGHT + 1 for _, y in curve)
            for node in ours["nodes"]:
                place = (node["x"], node["y"])
                if place not in (curve[0], curve[-1]):
                    near += min(math.dist(place, point) for point in curve) < CLEAR - 1
    assert near == 0


@pytest.mark.parametrize("chart", ["R1", "Dev2", "R1-Zero"])
def test_each_rl_stage_of_the_teacher_has_a_held_out_curve_in_the_shipped_profile(chart):
    [stage] = [stage for stage in STAGES.values() if stage.kind == "rl" and stage.rung == chart]
    for name in ("pocket", "smollm2-135m", "qwen2.5-1.5b", "qwen2.5-7b", "paper"):
        assert getattr(load_profile(name).profile.stages, stage.id).heldout is not None, name
