"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

# pytest-xdist says how wide the terminal is in which it runs; tables would be folded to that.
os.environ.pop("COLUMNS", None)

# Hypothesis measures by the clock on the wall how long an example and the making of one take: on a busy machine that is
# no fault of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items):
    """Run whole ladders and what trains before the rest: beside the last long test the other processes would wait."""
    first = ("tests/stages/", "tests/pipeline/training/", "tests/pipeline/runs/")
    items.sort(
        key=lambda item: next((place for place, folder in enumerate(first) if item.nodeid.startswith(folder)), 9)
    )
