"""How numbers and settings are written for people."""

import json
from math import isfinite
from typing import Any


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as per cent, without the sign; a dash where there is none."""
    return "–" if share is None or not isfinite(share) else f"{100 * share:.{digits}f}"


def short(value: float | None, digits: int = 4) -> float | None:
    """So many digits of a number: no chart or table shows more, and a page stays small."""
    return None if value is None else float(f"{value:.{digits}g}")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"


def rough(seconds: float) -> str:
    """A duration that is only an estimate: `2 min`, `1 h 20 min`."""
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))} min"
    minutes = round(seconds / 600) * 10
    return f"{minutes // 60} h {minutes % 60:02d} min"


def amount(count: float | None) -> str:
    """A count with a unit prefix from ten thousand on: 9,123 and 12.3 k and 4.56 M."""
    if count is None:
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= limit:
            return f"{count / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{count:,.0f}"


def size(count: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def as_in_a_profile(value: Any) -> str:
    """A setting as a profile has it: YAML's words and brackets, not Python's."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
