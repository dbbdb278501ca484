"""Times of the day."""

import math
import re

TIME = re.compile(
    r"(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-5][0-9]))?\s*(?P<half>a\.? ?m\b\.?|p\.? ?m\b\.?|noon|midnight)?",
    re.IGNORECASE,
)


def same_time(gold: str, answer: str) -> bool | None:
    """Whether two texts are one time of the day; None where the gold is none, or may as well be a ratio."""
    ours = read_time(gold)
    if ours is None:
        return None
    theirs = read_time(answer, of_a_day=ours[1] is not None)
    if theirs is None:
        return None if ours[1] is None else False  # it may be a ratio
    if ours == theirs:
        return True
    if (ours[1] is None) == (theirs[1] is None):
        return False
    half, other = (ours, theirs) if ours[1] else (theirs, ours)
    return not 60 <= other[0] <= 12 * 60 and half[0] == other[0]  # 14:30 is 2:30 pm; 2:30 may be either


def read_time(text: str, of_a_day: bool = False) -> tuple[int, str | None] | None:
    """Minutes since midnight and which half of the day was said; None for any other text, and for a ratio.

    `of_a_day` says that hours and minutes are a time, and no ratio.
    """
    match = TIME.fullmatch(re.sub(r"^at\s+", "", text.strip()))
    if match is None:
        return None
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    half = match["half"].lower().replace(".", "").replace(" ", "") if match["half"] else None
    ratio = match["minute"] is None or (not of_a_day and match["minute"][0] != "0" and math.gcd(hour, minute) == 1)
    if hour > 24 or (half is None and ratio):
        return None
    if half in ("pm", "noon") and hour < 12:
        hour += 12
    if half in ("am", "midnight") and hour == 12:
        hour = 0
    return hour * 60 + minute, {"noon": "pm", "midnight": "am"}.get(half, half)
