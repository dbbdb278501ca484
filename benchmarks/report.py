"""How large a run's report is, how soon it opens, and how fast its viewer filters, in the system's Chromium.

    .venv/bin/python -m benchmarks.report [runs/pocket/report/report.html] [--shots FOLDER]

Figures to reach: under 8 MB, open in under 2 s, and with 20,000 answers every filter under 200 ms. `--shots` also saves
screenshots at desktop and phone widths, light and dark.
"""

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

REPEATS = 5
FILTERS = {
    "outcome: wrong": "document.querySelector('[name=outcome]').value = 'wrong'",
    "cut at the limit": "document.querySelector('[name=truncated]').checked = true",
    "mixed language": "document.querySelector('[name=mixed]').checked = true",
    "highest reward first": "document.querySelector('[name=order]').value = 'high'",
    "contains a word": "document.querySelector('[name=words]').value = 'check'",
}
TIMED = """(change) => new Promise((done) => {
  const form = document.querySelector('#rollouts form');
  form.reset();
  form.dispatchEvent(new Event('input'));
  requestAnimationFrame(() => setTimeout(() => {
    const start = performance.now();
    eval(change);
    form.dispatchEvent(new Event('input'));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
  }));
})"""
"""From the change of a control to the frame painted after it, in milliseconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", nargs="?", type=Path, default=Path("runs/pocket/report/report.html"))
    parser.add_argument("--shots", type=Path, help="folder to save screenshots in")
    options = parser.parse_args()
    print(f"{options.report}: {options.report.stat().st_size / 1e6:.2f} MB")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=os.getuid() != 0, args=["--disable-gpu"]
        )
        opening = [open_report(browser, options.report)[1] for _ in range(REPEATS)]
        print(f"open until the viewer is ready: median {statistics.median(opening):.2f} s, worst {max(opening):.2f} s")
        page, _ = open_report(browser, options.report, bypass_csp=True)
        print(page.locator("#rollouts [role=status]").inner_text().split(", found")[0])
        for name, change in FILTERS.items():
            took = [page.evaluate(TIMED, change) for _ in range(REPEATS)]
            print(f"filter, {name}: median {statistics.median(took):.0f} ms, worst {max(took):.0f} ms")
        if options.shots:
            take_shots(browser, options.report, options.shots)


def open_report(browser: Browser, report: Path, **context) -> tuple[Page, float]:
    """The page, and seconds from asking for it until its viewer is ready."""
    page = browser.new_context(**context).new_page()
    start = time.perf_counter()
    page.goto(report.resolve().as_uri())
    page.wait_for_selector("#rollouts[data-ready]")
    return page, time.perf_counter() - start


def take_shots(browser: Browser, report: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for width, name in ((1280, "desktop"), (390, "phone")):
        for scheme in ("light", "dark"):
            page, _ = open_report(
                browser, report, viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=1
            )
            page.add_style_tag(content="nav { position: static !important; }")
            for section in ("ladder", "tables", "claims", "curves", "rollouts", "data"):
                path = folder / f"{section}-{name}-{scheme}.png"
                page.locator(f"#{section}").screenshot(path=path)
                print(path)


if __name__ == "__main__":
    main()
