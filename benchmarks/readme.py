"""The README's figures, all from one finished run: its table, the sentences with figures, and both pictures.

    make readme-figures [PROFILE=pocket] [RUN=name]      # from a run whose report is written
    .venv/bin/python -m benchmarks.readme --check        # says whether they are those of the data file

Writes `benchmarks/results/quickstart.json`, the part of `README.md` between the markers, and the pictures below
`docs/images/`, which are taken of the run's report with the system's Chromium.
"""

import argparse
import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from pipeline.config.profile import Profile
from pipeline.core.errors import LadderError, RunError
from pipeline.core.figures import duration, size
from pipeline.core.files import hash_file, write_durably
from pipeline.core.manifest import Manifest
from pipeline.ladder import EVALUATE, LADDER, REPORT
from pipeline.report.claim import Verdict
from pipeline.report.claims import judge_run
from pipeline.runs.folder import RunFolder
from pipeline.runs.loading import load_run
from pipeline.runs.runner import stage_states
from pipeline.runs.summary import ladder_table

ROOT = Path(__file__).resolve().parents[1]
DATA = "benchmarks/results/quickstart.json"
BEGIN = "<!-- quickstart: written by `make readme-figures`, of one run; do not edit -->"
END = "<!-- quickstart: end -->"
LADDER_PICTURE, ZERO_PICTURE = "docs/images/ladder.png", "docs/images/r1-zero.png"
WIDTH, LINE = 1280, 120
CHARTS = 6
"""Charts of R1-Zero in its picture, from the first one on."""


def figures_of(profile: Profile, run: RunFolder) -> dict[str, Any]:
    """Every figure that the README gives. Raises RunError where a stage of the run is not done."""
    for stage_id, state in stage_states(profile, run).items():
        if state.state != "done":
            raise RunError(
                f"{run.path}: {stage_id} is {state.state}. Run `make all` with the same PROFILE and RUN first."
            )
    found = json.loads((run.stage(EVALUATE.id) / "results.json").read_text(encoding="utf-8"))
    table = ladder_table(profile, found["results"])
    made = [Manifest.read(run.stage(stage.id)) for stage in LADDER]
    claims = judge_run(profile, run)
    return {
        "profile": profile.name,
        "seed": profile.seed,
        "sets": found["settings"]["sets"],
        "headings": [str(column.header) for column in table.columns],
        "rows": [list(row) for row in zip(*(map(str, column.cells) for column in table.columns), strict=True)],
        "claims": {claim.name: {"statement": claim.statement, "verdict": str(claim.verdict)} for claim in claims},
        "kept": {m.stage: m.metrics["kept"]["step"] for m in made if m.metrics.get("kept")},
        "seconds": sum(manifest.wall_seconds for manifest in made),
        "peak_bytes": max(manifest.peak_memory_bytes or 0 for manifest in made),
    }


def block(data: dict[str, Any]) -> str:
    """The README's part of figures: Markdown, from the data file alone."""
    by_verdict = {
        verdict: [claim["statement"] for claim in data["claims"].values() if claim["verdict"] == verdict]
        for verdict in Verdict
    }
    tells = (
        f"Of the {len(data['claims'])} effects that the report tests, {len(by_verdict.pop(Verdict.HOLDS))} hold here"
    )
    tells += "".join(f"; {verdict}: {', '.join(found)}" for verdict, found in by_verdict.items() if found) + "."
    lines = [
        BEGIN,
        _wrapped(
            f"The table that `make quickstart` ends with (seed {data['seed']}; per cent; `cut`: answers ended by the "
            "length limit; the last columns are pass@1 on questions that no rule of the training knows):"
        ),
        "",
        _row(data["headings"]),
        _row(["---"] * len(data["headings"])),
        *map(_row, data["rows"]),
        "",
        *(_wrapped(f"- `{name}`: {settings}", "  ") for name, settings in data["sets"].items()),
        "",
        _wrapped(
            f"{tells} The stages took {duration(data['seconds'])} and at most {size(data['peak_bytes'])} of memory."
        ),
        "",
        f"![The ladder as the report draws it, with the paper's figures below on another scale]({LADDER_PICTURE})",
        "",
        "R1-Zero, step by step: format is learned first, by blurting inside the tags; then reasoning takes over and "
        "answers grow.",
        "",
        f"![Held-out accuracy, rewards, length, KL and entropy of R1-Zero]({ZERO_PICTURE})",
        END,
    ]
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def between_markers(text: str) -> str:
    """The part of the README that is written here, markers included. Raises RunError where it has no such part."""
    start, end = text.find(BEGIN), text.find(END)
    if start < 0 or end < start:
        raise RunError(f"README.md has no part for figures. Put these two lines where it is to stand:\n{BEGIN}\n{END}")
    return text[start : end + len(END)]


def disagreements(root: Path) -> list[str]:
    """What of the README and its pictures is not what the data file says."""
    data = json.loads((root / DATA).read_text(encoding="utf-8"))
    found = []
    if between_markers((root / "README.md").read_text(encoding="utf-8")) != block(data):
        found.append(f"README.md's figures are not those of {DATA}")
    for name, digest in data["pictures"].items():
        if not (root / name).is_file() or hash_file(root / name) != digest:
            found.append(f"{name} is not the picture of the run of {DATA}")
    return found


def write(profile: Profile, run: RunFolder, root: Path) -> None:
    """Everything anew, from one run."""
    data = figures_of(profile, run)
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    before = between_markers(text)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=os.getuid() != 0, args=["--disable-gpu"]
        )
        take_pictures(browser, run.stage(REPORT.id) / "report.html", root)
        browser.close()
    data["pictures"] = {name: hash_file(root / name) for name in (LADDER_PICTURE, ZERO_PICTURE)}
    write_durably(root / DATA, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    write_durably(readme, text.replace(before, block(data)))


def take_pictures(browser: Browser, report: Path, root: Path) -> None:
    """Pictures of the ladder and of R1-Zero's curves, as the report draws them in the light."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light", device_scale_factor=1)
    page.goto(report.resolve().as_uri())
    page.wait_for_selector("#rollouts[data-ready]")
    page.add_style_tag(content="nav { display: none !important; }")
    page.locator("figure.climb").first.screenshot(path=root / LADDER_PICTURE)
    top = page.locator("#curves-r1_zero")
    charts = top.locator("xpath=following-sibling::div[1]").locator("figure.chart")
    boxes = [top.bounding_box(), *(charts.nth(place).bounding_box() for place in range(CHARTS))]
    left, upper = min(box["x"] for box in boxes), min(box["y"] for box in boxes)
    right, lower = max(box["x"] + box["width"] for box in boxes), max(box["y"] + box["height"] for box in boxes)
    upper_on_page = upper + page.evaluate("window.scrollY")
    clip = {"x": left, "y": upper_on_page, "width": right - left, "height": lower - upper}
    page.screenshot(path=root / ZERO_PICTURE, full_page=True, clip=clip)
    page.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="pocket")
    parser.add_argument("--run", default="")
    parser.add_argument("--set", default="", help="as the run was made with")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    try:
        if options.check:
            found = disagreements(ROOT)
            print("\n".join(found) or f"README.md and its pictures agree with {DATA}.")
            return 1 if found else 0
        profile, run = load_run(options.profile, options.set.split(), options.seed, options.run)
        write(profile, run, ROOT)
    except LadderError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"README.md, {DATA} and the pictures are those of {run.path}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
