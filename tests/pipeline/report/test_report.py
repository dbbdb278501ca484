"""What the report holds, read from the file itself."""

import base64
import gzip
import html
import json
import random
import re

import pytest

from pipeline.cli import main
from pipeline.config.loading import load_profile
from pipeline.core.files import write_json_lines
from pipeline.report import RunRecord, viewer, write_report
from pipeline.report.claims import judge_run
from pipeline.report.curves import stage_curves
from pipeline.report.funnels import funnel, histogram
from pipeline.report.page import embedded
from pipeline.runs.runner import stage_states
from tests.pipeline.report.run_folders import World, make_run, smoke_profile, write_steps

KINDS = {"rung": 11 * 3 * 8 * 4, "heldout": 2 * 4 * 4 * 2, "training": 4 * 3 * 16}
"""How many answers of each kind the finished run of `make_run` holds."""


def written(profile, run, overlaid=()):
    path = run.path / "report.html"
    write_report(RunRecord.of_folder(profile, run), path, list(overlaid))
    return path.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """The page without scripts, styles and tags, blanks made one."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def viewer_rows(page: str) -> dict:
    packed = re.search(r'id="data-rollouts"[^>]*>([^<]*)</script>', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_finished_run_shows_every_section(home):
    profile = smoke_profile()
    page = written(profile, make_run("smoke", profile))
    for section in ("ladder", "tables", "claims", "curves", "rollouts", "data", "cost", "provenance"):
        assert f'<section id="{section}">' in page
    assert "Not every stage is done" not in page


def test_figures_of_the_evaluation_stand_in_the_tables(home):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    results = json.loads((run.stage("evaluate") / "results.json").read_text())["results"]
    text = text_of(written(profile, run))
    for rung, sets in results.items():
        for figures in sets.values():
            low, high = (f"{100 * figures[key]:.1f}" for key in ("low", "high"))
            assert f"{100 * figures['pass@1']:.1f} [{low}, {high}]" in text, rung
    assert f"{results['R1']['reasoning']['mean_tokens']:.1f}" in text


def test_paper_figures_are_labelled_as_another_scale(home):
    profile = smoke_profile()
    text = text_of(written(profile, make_run("smoke", profile)))
    for table in ("The paper's own Table 3, another scale", "The paper's own Table 15, another scale"):
        assert table in text
    assert "R1-Distill-Qwen-1.5B 28.9 52.7 83.9" in text
    assert "Another scale" in text.split("This run: pass@1")[1].split("A full line joins")[0]


def test_every_claim_stands_with_test_figures_and_verdict(home):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    text = text_of(written(profile, run))
    claims = judge_run(profile, run)
    assert {claim.held for claim in claims} >= {True, False}
    for claim in claims:
        assert f"{claim.in_words} {claim.statement} {claim.test} {claim.figures}" in text


def test_nothing_in_the_page_is_loaded_from_elsewhere(home):
    profile = smoke_profile()
    page = written(profile, make_run("smoke", profile))
    tags = re.sub(r"(<(script|style)\b[^>]*>).*?</\2>", r"\1", page, flags=re.DOTALL)
    opened = " ".join(re.findall(r"<[a-z][^<>]*>", tags))
    links = re.findall(r"(?:src|href|action)\s*=\s*[\"']?([^\"'\s>]*)", opened)
    assert len(links) > 5
    for link in links:
        assert link.startswith(("#", "data:")), link
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\((?!data:)", page)


def test_what_models_wrote_is_never_markup(home):
    profile = smoke_profile()
    page = written(profile, make_run("smoke", profile))
    assert "<script>window.hacked" not in page
    assert "onerror='window" not in page
    assert "&lt;script&gt;window.hacked" in page


def test_json_in_the_page_cannot_end_its_script():
    hostile = {"a": "</script><!-- <script> & \u2028"}
    text = str(embedded(hostile))
    assert not set("<>&") & set(text)
    assert json.loads(text) == hostile


def test_page_of_a_run_without_any_stage_says_so(home):
    profile = smoke_profile()
    run = make_run("smoke", profile, upto="base_model")
    text = text_of(written(profile, run))
    assert "Not every stage is done" in text
    assert "No stage of reinforcement learning has made a step yet" in text
    assert "No model has written anything yet" in text


def test_steps_of_a_stage_under_way_are_shown(home):
    profile = smoke_profile()
    run = make_run("smoke", profile, upto="base_model")
    partial = run.partial("r1_zero", stage_states(profile, run)["r1_zero"].key)
    partial.mkdir(parents=True)
    write_steps(partial, profile, "r1_zero", World(steps=12), random.Random(0))
    with (partial / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "rew')
    page = written(profile, run)
    curves = json.loads(re.search(r'id="data-curves">(.*?)</script>', page, re.DOTALL).group(1))
    kl = next(chart for chart in curves["r1_zero"]["charts"] if chart["title"].startswith("KL"))
    assert kl["lines"][0]["x"] == list(range(1, 13))
    assert "r1_zero , partial" in text_of(page).replace("R1-Zero r1_zero, partial", "r1_zero , partial")


def test_rung_not_yet_evaluated_shows_its_held_out_curve(home):
    profile = smoke_profile()
    run = make_run("smoke", profile, upto="r1_zero")
    last = [json.loads(line) for line in (run.stage("r1_zero") / "heldout.jsonl").read_text().splitlines()][-1]
    text = text_of(written(profile, run))
    assert f"{100 * last['pass@1']:.1f} %" in text
    assert "from the held-out curve of r1_zero, step 30" in text
    assert "from the held-out curve of r1_zero, step 0" in text, "the base is where that curve begins"


def test_stale_evaluation_is_named_as_such(home):
    run = make_run("smoke", smoke_profile())
    changed = smoke_profile("stages.r1_zero.grpo.learning_rate=1e-5")
    text = text_of(written(changed, run))
    assert "from an earlier evaluation" in text
    assert "They are judged once the evaluation is done; it is stale" in text


def test_accuracy_is_a_line_of_its_own_beside_format(home):
    profile = smoke_profile()
    record = RunRecord.of_folder(profile, make_run("smoke", profile))
    charts = {chart["title"]: chart for chart in stage_curves([record], "general_rl")["charts"]}
    names = [line["name"] for line in charts["Training rewards, each apart"]["lines"]]
    assert names == ["accuracy", "format", "language", "helpful model"], "a reward that never applied has no line"


def test_changes_of_the_run_are_marked(home):
    profile = smoke_profile()
    record = RunRecord.of_folder(profile, make_run("smoke", profile, world=World(steps=5)))
    zero = [(mark["step"], mark["what"]) for mark in stage_curves([record], "r1_zero")["marks"]]
    assert zero == [(2, "reference refreshed"), (2, "up to 64 tokens"), (4, "reference refreshed")]
    general = [(mark["step"], mark["what"]) for mark in stage_curves([record], "general_rl")["marks"]]
    assert (1, "helpful model counts") in general


def test_long_curves_become_means_of_equal_parts(home):
    profile = smoke_profile()
    record = RunRecord.of_folder(profile, make_run("smoke", profile, upto="r1_zero", world=World(steps=3000)))
    charts = {chart["title"]: chart for chart in stage_curves([record], "r1_zero")["charts"]}
    line = charts["Response length"]["lines"][0]
    assert len(line["x"]) == 1000
    assert line["y"][0] == pytest.approx(10 + 2, rel=1e-3)


def test_runs_overlaid_keep_their_names(home):
    profile, other = smoke_profile(), smoke_profile(seed=1)
    run = make_run("smoke", profile)
    make_run("smoke-seed1", other)
    page = written(profile, run, [RunRecord.as_made("smoke-seed1")])
    curves = json.loads(re.search(r'id="data-curves">(.*?)</script>', page, re.DOTALL).group(1))
    lines = curves["r1_zero"]["charts"][0]["lines"]
    assert {line["run"] for line in lines} == {"smoke", "smoke-seed1"}
    assert curves["r1_zero"]["runs"] == ["smoke", "smoke-seed1"]


def test_funnel_adds_up_and_keeps_examples(home):
    profile = smoke_profile()
    record = RunRecord.of_folder(profile, make_run("smoke", profile))
    found = funnel(record, "rejection_sampling")
    assert found["samples"] == found["rows"] + sum(drop["count"] for drop in found["drops"])
    assert all(drop["examples"] for drop in found["drops"])
    assert found["general_rows"] == 7
    assert all("Hello" not in example["text"] for example in found["kept_examples"]), "general rows were not sampled"


@pytest.mark.parametrize("lengths", [{"kept": [], "dropped": [3]}, {"kept": list(range(500)), "dropped": [10**6]}])
def test_histogram_counts_everything_once(lengths):
    found = histogram(lengths)
    assert {name: sum(counts) for name, counts in found["counts"].items()} == {k: len(v) for k, v in lengths.items()}


def test_histogram_of_nothing_is_none():
    assert histogram({"kept": [], "dropped": []}) is None


def test_all_answers_travel_in_the_page(home):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    page = written(profile, run)
    blocks = viewer_rows(page)["blocks"]
    counts = {kind: sum(len(b["text"]) for b in blocks if b["kind"] == kind) for kind in KINDS}
    assert counts == KINDS
    assert f"All these {sum(KINDS.values()):,} answers" in text_of(page)


def test_held_out_questions_keep_their_place_from_step_to_step_and_rung_to_rung(home):
    profile = smoke_profile()
    blocks = viewer_rows(written(profile, make_run("smoke", profile)))["blocks"]
    steps = [b for b in blocks if b["kind"] == "heldout" and b["stage"] == "r1_zero"]
    assert [b["step"] for b in steps] == [0, 10, 20, 30]
    assert len({tuple(b["question"]) for b in steps}) == 1
    evaluated = next(b for b in blocks if b["label"] == "R1" and b["set"] == "reasoning")
    assert set(steps[0]["question"]) < set(evaluated["question"])


def test_answers_over_the_bound_are_left_out_evenly_and_counted(home, monkeypatch):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    monkeypatch.setattr(viewer, "MOST_BYTES", 60_000)
    page = written(profile, run)
    data = viewer_rows(page)
    rungs = [b for b in data["blocks"] if b["kind"] == "rung" and b["set"] == "reasoning"]
    assert len({tuple(sorted(set(b["question"]))) for b in rungs}) == 1, "every rung keeps the same questions"
    shown = sum(len(b["text"]) for b in data["blocks"])
    total = sum(KINDS.values())
    assert 0 < shown < total
    assert f"{shown:,} of these {total:,} answers are in this page" in text_of(page)
    assert f"{total - shown:,} are left out" in text_of(page)


def test_training_rollouts_are_read_from_steps_spread_over_the_stage(home, monkeypatch):
    profile = smoke_profile("stages.report.rollouts_per_step=5")
    run = make_run("smoke", profile, upto="r1_zero", world=World(steps=90, rollouts_every=10))
    monkeypatch.setattr(viewer, "MOST_STEPS", 3)
    page = written(profile, run)
    blocks = [b for b in viewer_rows(page)["blocks"] if b["kind"] == "training"]
    assert [b["step"] for b in blocks] == [1, 41, 81]
    assert {len(b["text"]) for b in blocks} == {5}
    assert "the first 5 of a step, in r1_zero of 3 of 9 recorded steps" in text_of(page)


def test_rewards_of_one_kind_keep_names_and_weights_of_their_own(home):
    two = "[{use: accuracy, domains: [math]}, {use: accuracy, weight: 3.0}, {use: format}]"
    profile = smoke_profile(f"stages.r1_zero.rewards={two}")
    run = make_run("smoke", profile, upto="r1_zero")
    [chart] = [
        c for c in stage_curves([RunRecord.of_folder(profile, run)], "r1_zero")["charts"] if "each apart" in c["title"]
    ]
    assert [line["name"] for line in chart["lines"]] == ["accuracy", "accuracy 2", "format"]


def test_a_reward_that_the_recipe_adds_is_shown_by_its_own_name(home):
    """The trainer writes it behind those of the profile, which does not list it."""
    profile = smoke_profile("stages.r1_zero.grpo.recipe=dapo")
    run = make_run("smoke", profile, upto="r1_zero")
    stage = run.stage("r1_zero")
    for path in (stage / "metrics.jsonl", *(stage / "rollouts").iterdir()):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_json_lines(path, [{**row, "rewards": {**row["rewards"], "overlong": -0.25}} for row in rows])
    [chart] = [
        c for c in stage_curves([RunRecord.of_folder(profile, run)], "r1_zero")["charts"] if "each apart" in c["title"]
    ]
    assert {line["name"]: line["y"][0] for line in chart["lines"]}["overlong"] == -0.25
    [block] = [b for b in viewer_rows(written(profile, run))["blocks"] if b["kind"] == "training"][:1]
    for row, total in enumerate(block["reward"]):
        parts = [values[row] for name, values in block["rewards"].items() if name != "advantage"]
        assert total == pytest.approx(sum(parts), abs=1e-2)


def test_long_answers_lose_their_middle_and_say_so():
    text = "a" * 20_000 + "end"
    cut = viewer._cut(text)
    assert len(cut) < viewer.LONGEST_TEXT + 100
    assert cut.endswith("end")
    assert "12,003 characters left out" in cut


def test_training_reward_is_the_weighted_sum_of_its_parts(home):
    profile = smoke_profile("stages.student_rl.rewards=[{use: accuracy}, {use: format, weight: 0.5}]")
    page = written(profile, make_run("smoke", profile, upto="student_rl"))
    block = next(b for b in viewer_rows(page)["blocks"] if b["stage"] == "student_rl")
    for reward, accuracy, form in zip(
        block["reward"], block["rewards"]["accuracy"], block["rewards"]["format"], strict=True
    ):
        assert reward == pytest.approx(accuracy + 0.5 * form)


def test_provenance_names_code_versions_hashes_and_commands(home):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    text = text_of(written(profile, run))
    assert "git checkout 0123456789abcdef0123456789abcdef01234567" in text
    assert "torch 2.13.0" in text
    manifest = json.loads((run.stage("r1_zero") / "manifest.json").read_text())
    assert manifest["outputs"]["checkpoint/config.json"] in text
    assert manifest["config_hash"][:12] in text


def test_profile_in_the_page_makes_the_same_run(home):
    profile = smoke_profile("stages.r1_zero.grpo.learning_rate=1e-5", seed=3)
    page = written(profile, make_run("smoke", profile, upto="base_model"))
    dump = re.search(r"The whole profile</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL).group(1)
    (home / "reproduce.yaml").write_text(html.unescape(dump))
    assert load_profile("reproduce.yaml").profile == profile


def test_same_run_gives_the_same_file(home):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    assert written(profile, run) == written(profile, run)


def test_report_command_finishes_the_stage_of_a_finished_run(home, capsys):
    profile = smoke_profile()
    run = make_run("smoke", profile)
    assert main(["report", "--profile", "smoke", "--set", "device=cpu"]) == 0
    assert stage_states(profile, run)["report"].state == "done"
    assert "runs/smoke/report/report.html" in capsys.readouterr().out


def test_report_command_previews_an_unfinished_run_and_runs_nothing(home, capsys):
    profile = smoke_profile()
    run = make_run("smoke", profile, upto="r1_zero")
    assert main(["report", "--profile", "smoke"]) == 0
    assert (run.path / "report-preview.html").is_file()
    assert not run.stage("cold_start_data").exists()
    assert "2 of 12 stages" in capsys.readouterr().out


def test_report_command_names_a_run_that_is_not_there(home, capsys):
    assert main(["report", "--profile", "smoke", "--run", "nothing"]) == 2
    assert "runs/nothing" in capsys.readouterr().err
