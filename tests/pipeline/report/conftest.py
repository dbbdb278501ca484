"""A folder to make runs in, and a browser to look at their pages with.

The browser is the system's Chromium, driven by Playwright. Where either is missing the tests fail: a page that nobody
opened is not tested.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from pipeline.report import RunRecord, write_report
from tests.pipeline.report.run_folders import CONFIGS, make_run, smoke_profile

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder to work in, with the profiles that runs are made from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    return tmp_path


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    """The report of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "configs").symlink_to(CONFIGS)
    with contextlib.chdir(folder):
        profile = smoke_profile()
        run = make_run("smoke", profile)
        write_report(RunRecord.of_folder(profile, run), folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    """Closed after each module: while it is open its event loop runs in this thread, and no other can."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        why = (
            f"None of {', '.join(BROWSERS)} is installed, and these tests open the report in a browser. "
            "On Debian: apt-get install chromium"
        )
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=found, args=FLAGS, chromium_sandbox=os.getuid() != 0, timeout=120_000
        )
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser):
    """`open_page(path, width=1280, scheme="light")`: the page once its viewer is ready, with what it complained about
    in `complaints` and what it asked for in `requests`."""
    contexts = []

    def opened(path: Path, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.complaints, page.requests = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        if page.locator("#data-rollouts").count():
            page.wait_for_selector("#rollouts[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
