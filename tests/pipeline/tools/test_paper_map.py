"""docs/paper-map.md is what the code says of the papers, and misses no stage, equation or file."""

import re

from pipeline.ladder import LADDER
from pipeline.tools import paper_map

WRITTEN = paper_map.PAGE.read_text(encoding="utf-8")


def test_the_page_is_current():
    """Mend by `python -m pipeline.tools.paper_map`."""
    assert paper_map.page() == WRITTEN


def test_every_stage_that_the_paper_describes_is_on_it():
    assert all(f"(../stages/{stage.id}.py)" in WRITTEN for stage in LADDER if stage.paper)


def test_every_file_that_it_names_is_there():
    links = set(re.findall(r"\(\.\./([^)]+)\)", WRITTEN))
    assert len(links) > 25 and all((paper_map.ROOT / link).is_file() for link in links)


def test_every_paper_that_code_names_is_on_it():
    for package in paper_map.PACKAGES:
        for file in (paper_map.ROOT / package).rglob("*.py"):
            if file.name != "paper_map.py":
                text = " ".join(file.read_text(encoding="utf-8").split())
                named = set(re.findall(r"arXiv (\d{4}\.\d{5})", text)) - {"2501.12948"}
                assert all(f"abs/{paper})" in WRITTEN for paper in named), file


def test_a_place_in_a_paper_is_read():
    found = [paper_map.Described("x.py", "f", "GRPO (arXiv 2402.03300), equation 3. DAPO, arXiv 2503.14476, 3.4")]
    assert [row[1] for row in paper_map.source_rows(found)] == ["equation 3", "3.4"]
