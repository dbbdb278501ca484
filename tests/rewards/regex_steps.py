"""How many steps a backtracking search takes, counted: a small matcher for patterns as Python's own parser reads them.

`attacks` makes texts against a pattern out of the pattern itself: everything that it repeats, and every beginning of
it, repeated, before an end that does not match.
"""

import functools
import re
from collections.abc import Callable, Iterator
from re import _constants as sre
from re import _parser

REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
CATEGORIES = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
}
CATEGORIES |= {
    sre.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    sre.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    sre.CATEGORY_NOT_WORD: lambda character: not CATEGORIES[sre.CATEGORY_WORD](character),
}
TRIED = " a1\n-A~.(*,是"
"""Characters to stand for a class, in this order."""
FEW_TIMES = 40
ENDS = ("\x00", "`")

Continue = Callable[[int], int | None]
Match = Callable[[int, Continue], int | None]


class Counted:
    """A pattern, and the steps that its searches have taken."""

    def __init__(self, pattern: re.Pattern[str]):
        self.steps, self.text = 0, ""
        self.tree = _parser.parse(pattern.pattern, pattern.flags)
        self.match = self._sequence(list(self.tree), pattern.flags)

    def search_all(self, text: str) -> int:
        """The steps of finding every match in `text`."""
        self.steps, self.text, place = 0, text, 0
        while place <= len(text):
            end = self.match(place, lambda reached: reached)
            place = place + 1 if end is None or end == place else end
        return self.steps

    def match_once(self, text: str) -> int:
        """The steps of matching the start of `text`, or all of it if that takes more."""
        self.steps, self.text = 0, text
        self.match(0, lambda reached: reached if reached == len(text) else None)
        return self.steps

    def _sequence(self, items: list, flags: int) -> Match:
        matches = [self._item(item, flags) for item in items]

        def match(place: int, then: Continue) -> int | None:
            for one in reversed(matches):
                then = _bound(one, then)
            return then(place)

        return match

    def _item(self, item: tuple, flags: int) -> Match:
        kind, value = item
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            test = _character(item, flags)
            return lambda place, then: then(place + 1) if self._is(test, place) else None
        if kind in REPEATS:
            return self._repeat(kind, *value, flags)
        if kind is sre.SUBPATTERN:
            _, added, removed, inside = value
            return self._sequence(list(inside), (flags | added) & ~removed)
        if kind is sre.ATOMIC_GROUP:
            inside = self._sequence(list(value), flags)
            return lambda place, then: None if (end := inside(place, lambda reached: reached)) is None else then(end)
        if kind is sre.BRANCH:
            ways = [self._sequence(list(way), flags) for way in value[1]]
            return lambda place, then: next((end for way in ways if (end := way(place, then)) is not None), None)
        if kind in (sre.ASSERT, sre.ASSERT_NOT):
            return self._look(kind is sre.ASSERT, *value, flags)
        if kind is sre.AT:
            return lambda place, then: then(place) if self._at(value, place, flags) else None
        raise NotImplementedError(kind)

    def _is(self, test: Callable[[str], bool], place: int) -> bool:
        self.steps += 1
        return place < len(self.text) and test(self.text[place])

    def _repeat(self, kind, least: int, most: int, body, flags: int) -> Match:
        if len(body) == 1 and body[0][0] in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return self._repeat_character(kind, least, most, _character(body[0], flags))
        inside = self._sequence(list(body), flags)

        def again(place: int, count: int, then: Continue) -> int | None:
            self.steps += 1

            def more(reached: int) -> int | None:
                return None if reached == place and count >= least else again(reached, count + 1, then)

            if kind is sre.MIN_REPEAT and count >= least and (end := then(place)) is not None:
                return end
            if count < most and (end := inside(place, more)) is not None:
                return end
            return then(place) if kind is not sre.MIN_REPEAT and count >= least else None

        if kind is not sre.POSSESSIVE_REPEAT:
            return lambda place, then: again(place, 0, then)
        return lambda place, then: None if (end := again(place, 0, lambda reached: reached)) is None else then(end)

    def _repeat_character(self, kind, least: int, most: int, test: Callable[[str], bool]) -> Match:
        def match(place: int, then: Continue) -> int | None:
            count = 0
            if kind is sre.MIN_REPEAT:
                while count < least or (end := then(place + count)) is None:
                    if count >= most or not self._is(test, place + count):
                        return None
                    count += 1
                return end
            while count < most and self._is(test, place + count):
                count += 1
            if kind is sre.POSSESSIVE_REPEAT:
                return then(place + count) if count >= least else None
            for kept in range(count, least - 1, -1):
                self.steps += 1
                if (end := then(place + kept)) is not None:
                    return end
            return None

        return match

    def _look(self, wanted: bool, direction: int, body, flags: int) -> Match:
        inside, width = self._sequence(list(body), flags), body.getwidth()[1]

        def match(place: int, then: Continue) -> int | None:
            start = place if direction > 0 else place - width
            found = start >= 0 and inside(start, lambda reached: reached) is not None
            return then(place) if found is wanted else None

        return match

    def _at(self, where, place: int, flags: int) -> bool:
        self.steps += 1
        text, lines = self.text, flags & re.MULTILINE
        before, after = text[place - 1 : place] if place else "", text[place : place + 1]
        if where in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
            return place == 0 or bool(lines and before == "\n" and where is sre.AT_BEGINNING)
        if where in (sre.AT_END, sre.AT_END_STRING):
            return not after or (where is sre.AT_END and after == "\n" and bool(lines or place + 1 == len(text)))
        word = CATEGORIES[sre.CATEGORY_WORD]
        return (bool(before and word(before)) != bool(after and word(after))) is (where is sre.AT_BOUNDARY)


def _bound(match: Match, then: Continue) -> Continue:
    return lambda place: match(place, then)


def _character(item: tuple, flags: int) -> Callable[[str], bool]:
    """Whether a character is matched by an item that matches one."""
    kind, value = item
    if kind is sre.ANY:
        return (lambda _: True) if flags & re.DOTALL else (lambda character: character != "\n")
    items = [(sre.LITERAL, value)] if kind in (sre.LITERAL, sre.NOT_LITERAL) else value
    negated = kind is sre.NOT_LITERAL or items[0][0] is sre.NEGATE

    @functools.cache
    def test(character: str) -> bool:
        cases = {character, character.lower(), character.upper()} if flags & re.IGNORECASE else {character}
        return any(_holds(one, each) for one in items for each in cases) is not negated

    return test


def _holds(item: tuple, character: str) -> bool:
    kind, value = item
    if kind is sre.LITERAL:
        return character == chr(value)
    if kind is sre.RANGE:
        return len(character) == 1 and value[0] <= ord(character) <= value[1]
    return kind is sre.CATEGORY and CATEGORIES[value](character)


def repeats(tree) -> bool:
    """Whether the pattern repeats anything more than a few times."""
    for kind, value in tree:
        if kind in REPEATS and value[1] > FEW_TIMES:
            return True
        if any(repeats(body) for body in _bodies(kind, value)):
            return True
    return False


def _bodies(kind, value) -> list:
    """What stands inside an item."""
    if kind in REPEATS:
        return [value[2]]
    if kind in (sre.ASSERT, sre.ASSERT_NOT):
        return [value[1]]
    return {sre.SUBPATTERN: lambda: [value[3]], sre.BRANCH: lambda: value[1], sre.ATOMIC_GROUP: lambda: [value]}.get(
        kind, list
    )()


def attacks(tree, flags: int) -> set[tuple[str, str, str]]:
    """(beginning, what is repeated, end) of texts that make the pattern work for nothing."""
    found: set[tuple[str, str, str]] = set()
    for before, piece in _repeated(list(tree), "", flags):
        found |= {(before, piece, end) for end in ENDS} | {("", before + piece, ENDS[0])}
    return {attack for attack in found if attack[1]}


def _repeated(items: list, before: str, flags: int) -> Iterator[tuple[str, str]]:
    """(a text that leads there, a text that it matches) of everything that the pattern repeats often."""
    for item in items:
        kind, value = item
        if kind in REPEATS and value[1] > FEW_TIMES:
            yield before, _sample(item, flags)
        for body in _bodies(kind, value):
            yield from _repeated(list(body), before, flags)
        before += _sample(item, flags)


def _sample(item: tuple, flags: int) -> str:
    """A text that the item matches, as short as it can be and not empty; empty for what has no width."""
    kind, value = item
    if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
        test = _character(item, flags)
        own = [chr(one) for what, one in (value if kind is sre.IN else ()) if what is sre.LITERAL]
        first = [chr(value)] if kind is sre.LITERAL else []
        ranges = [chr(one[0]) for what, one in (value if kind is sre.IN else ()) if what is sre.RANGE]
        return next(character for character in [*first, *TRIED, *own, *ranges] if test(character))
    if kind in REPEATS:
        return "".join(_sample(one, flags) for one in value[2]) * max(1, value[0])
    if kind in (sre.SUBPATTERN, sre.ATOMIC_GROUP):
        return "".join(_sample(one, flags) for one in (value[3] if kind is sre.SUBPATTERN else value))
    if kind is sre.BRANCH:
        return max(("".join(_sample(one, flags) for one in way) for way in value[1]), key=len)
    return ""
