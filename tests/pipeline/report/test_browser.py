"""The report in a real browser: it works, it fits, it can be read by everyone, and it keeps to itself."""

import base64
import gzip
import json
import re
import struct

import pytest
from axe_playwright_python.sync_playwright import Axe

from benchmarks.readme import LADDER_PICTURE, ZERO_PICTURE, take_pictures
from pipeline.report.compare import compare_runs
from tests.pipeline.report.run_folders import EVIL, make_run, smoke_profile

ANSWERS = 11 * 3 * 8 * 4 + 2 * 4 * 4 * 2 + 4 * 3 * 16
STATUS = "#rollouts [role=status]"


def shown_count(page) -> int:
    """How many answers the viewer says it has found."""
    return int(page.locator(STATUS).inner_text().split(" of ")[0].replace(",", ""))


def rows_of(report) -> list[dict]:
    """Every answer in the page, with the block it is in."""
    packed = re.search(r'id="data-rollouts"[^>]*>([^<]*)</script>', report.read_text(encoding="utf-8")).group(1)
    blocks = json.loads(gzip.decompress(base64.b64decode(packed)))["blocks"]
    fields = ("text", "verdict", "truncated", "mixed", "wellFormed", "reward", "tokens")
    return [
        {"label": b["label"], "kind": b["kind"], **{field: b[field][i] for field in fields}}
        for b in blocks
        for i in range(len(b["text"]))
    ]


def test_page_opens_without_a_complaint_and_asks_nobody(report, open_page):
    page = open_page(report)
    page.get_by_role("button", name="One question, side by side").click()
    page.mouse.wheel(0, 20_000)
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file://", "data:", "blob:"))] == []
    assert len([url for url in page.requests if url.startswith("file://")]) == 1


def test_the_readmes_pictures_show_the_ladder_and_six_charts(report, browser, tmp_path):
    (tmp_path / LADDER_PICTURE).parent.mkdir(parents=True)
    take_pictures(browser, report, tmp_path)
    sizes = {}
    for name in (LADDER_PICTURE, ZERO_PICTURE):
        head = (tmp_path / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        sizes[name] = struct.unpack(">II", head[16:])
    assert all(1000 < width <= 1280 and 400 < height < 1400 for width, height in sizes.values()), sizes


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_nothing_overflows(report, open_page, width):
    page = open_page(report, width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="One question, side by side").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """(width) => [...document.querySelectorAll("main *")].filter((each) => {
             const box = each.getBoundingClientRect();
             return box.width && box.right > width + 1 && !each.closest(".scroll, .written, pre, .skip, .u-wrap");
           }).map((each) => each.outerHTML.slice(0, 120))""",
        width,
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_checker_finds_nothing(report, open_page, scheme):
    page = open_page(report, scheme=scheme)
    page.get_by_role("button", name="One question, side by side").click()
    page.get_by_role("button", name="Browse and filter").click()
    violations = Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []


def test_script_tags_in_answers_stay_text(report, open_page):
    page = open_page(report)
    assert page.locator("#rollouts .cards").get_by_text("window.hacked").count() > 0
    page.get_by_role("button", name="One question, side by side").click()
    assert EVIL in page.locator(".asked").inner_text()
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


@pytest.mark.parametrize(
    ("name", "keeps"),
    [
        ("truncated", lambda row: row["truncated"] == 1),
        ("mixed", lambda row: row["mixed"] == 1),
        ("broken", lambda row: row["wellFormed"] == 0),
        ("again", lambda row: "check again" in row["text"]),
    ],
)
def test_each_box_keeps_what_it_names(report, open_page, name, keeps):
    page = open_page(report)
    assert shown_count(page) == ANSWERS
    page.locator(f"[name={name}]").check()
    expected = sum(map(keeps, rows_of(report)))
    assert 0 < expected < ANSWERS
    assert shown_count(page) == expected
    page.locator(f"[name={name}]").uncheck()
    assert shown_count(page) == ANSWERS


def test_filters_add_up(report, open_page):
    page = open_page(report)
    page.locator("[name=by]").select_option("R1-Zero")
    page.locator("[name=set]").select_option("reasoning")
    page.locator("[name=outcome]").select_option("wrong")
    page.locator("[name=words]").fill("CHECK AGAIN")
    expected = [
        row
        for row in rows_of(report)
        if row["label"] == "R1-Zero" and row["verdict"] == "wrong" and "check again" in row["text"]
    ]
    assert expected
    assert shown_count(page) == len(expected)
    assert page.locator(".cards .verdict.wrong").count() == min(20, len(expected))
    page.locator("[name=words]").fill("no model wrote this")
    assert shown_count(page) == 0
    assert page.locator(".cards .card").count() == 0


def test_highest_reward_comes_first(report, open_page):
    page = open_page(report)
    page.locator("[name=by]").select_option("training")
    page.locator("[name=order]").select_option("high")
    best = max(row["reward"] for row in rows_of(report) if row["kind"] == "training")
    assert f"reward {best:g}" in page.locator(".cards .facts").first.inner_text()


def test_pages_turn(report, open_page):
    page = open_page(report)
    first = page.locator(".cards").inner_text()
    page.locator("[name=on]").click()
    assert page.locator(".page").inner_text().startswith("page 2 of ")
    assert page.locator(".cards").inner_text() != first
    page.locator("[name=back]").click()
    assert page.locator(".cards").inner_text() == first
    assert page.locator("[name=back]").is_disabled()


def test_thinking_and_answer_are_told_apart_and_second_looks_marked(report, open_page):
    page = open_page(report)
    page.locator("[name=again]").check()
    card = page.locator(".cards .card").first
    assert "<think>" in card.locator(".thinking").inner_text()
    assert "<answer>" in card.locator(".answer").inner_text()
    assert "<answer>" not in card.locator(".thinking").inner_text()
    assert card.locator("mark").first.inner_text().lower() in ("wait", "check again")


def test_one_question_is_answered_by_every_rung_side_by_side(report, open_page):
    page = open_page(report)
    page.locator("[name=set]").select_option("general")
    page.locator(".cards .card").nth(3).get_by_role("button", name="side by side").click()
    heads = page.locator(".columns .card-head strong").all_inner_texts()
    assert heads[:6] == ["base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1"]
    assert len(heads) == 11
    asked = page.locator(".asked").inner_text()
    column = page.locator(".columns .card").first
    before = column.inner_text()
    column.get_by_role("button", name="next sample of base").click()
    assert "sample 2 of 4" in column.inner_text()
    assert column.inner_text() != before
    page.locator("[name=later]").click()
    assert page.locator(".asked").inner_text() != asked


def test_steps_of_training_stand_beside_the_rungs(report, open_page):
    page = open_page(report)
    page.get_by_role("button", name="One question, side by side").click()
    heads = page.locator(".columns .card-head strong").all_inner_texts()
    assert heads[11:15] == ["R1-Zero at step 0", "R1-Zero at step 10", "R1-Zero at step 20", "R1-Zero at step 30"]


def test_charts_show_values_under_mouse_and_arrow_keys(report, open_page):
    page = open_page(report)
    plot = page.locator('.plot[data-stage="r1_zero"]').first
    values = plot.locator(".u-legend .u-value")
    plot.scroll_into_view_if_needed()
    assert values.first.inner_text() == "30", "the last step while nobody points"
    box = plot.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    assert values.first.inner_text() == "0"
    right = plot.locator(".u-legend .u-series", has_text="pass@1").locator(".u-value")
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", right.inner_text())
    page.mouse.move(0, 0)
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert values.first.inner_text() == "0"
    page.keyboard.press("ArrowRight")
    assert values.first.inner_text() == "10"


def test_charts_follow_the_colour_scheme_and_the_width(report, open_page):
    page = open_page(report)
    canvas = page.locator(".plot canvas").first
    light = canvas.evaluate("(each) => each.toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("(before) => document.querySelector('.plot canvas').toDataURL() !== before", arg=light)
    page.set_viewport_size({"width": 360, "height": 800})
    page.wait_for_function("document.querySelector('.plot canvas').clientWidth <= 340")
    assert page.complaints == []


def test_page_of_an_unfinished_run_has_no_complaints(home, open_page):
    from pipeline.report import RunRecord, write_report

    profile = smoke_profile("stages.r1_zero.heldout=null")
    run = make_run("smoke", profile, upto="r1_zero")
    write_report(RunRecord.of_folder(profile, run), home / "preview.html")
    page = open_page(home / "preview.html", width=360)
    assert page.complaints == []
    assert page.get_by_role("button", name="One question, side by side").count() == 0, "no held-out answer to compare"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_comparison_page_fits_is_accessible_and_overlays(home, open_page):
    make_run("a", smoke_profile(seed=0))
    make_run("b", smoke_profile("stages.r1_zero.grpo.learning_rate=1e-5", seed=1))
    page = open_page((home / compare_runs(["a", "b"])).resolve(), width=360)
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    legend = page.locator('.plot[data-stage="r1_zero"] .u-legend').first.inner_text()
    assert "pass@1 · a" in legend
    assert "pass@1 · b" in legend
    assert Axe().run(page).response["violations"] == []
