"""What stands behind a number: a unit of measure, a currency, a noun of what was counted, or a word that scales it.

Units of one dimension are converted (100 cm is 1 m); a unit that one side leaves out is taken as meant; a unit of
another dimension, and the noun of another thing, are wrong.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

Dimension = tuple[tuple[str, int], ...]


class Unreadable(Exception):
    """The text is no formula, or no unit, that is known here."""


def _units() -> dict[str, tuple[str, int, Fraction]]:
    """Name -> (dimension, its power, factor to the dimension's own unit)."""
    table: dict[str, tuple[str, int, Fraction]] = {}
    for dimension, power, factor, names in (
        ("length", 1, "1", "m meter metre 米 公尺"), ("length", 1, "1/100", "cm centimeter centimetre 厘米 公分"),
        ("length", 1, "1/1000", "mm millimeter millimetre 毫米"), ("length", 1, "1/10", "dm decimeter decimetre 分米"),
        ("length", 1, "1000", "km kilometer kilometre 千米 公里"), ("length", 1, "0.0254", "in inch inche"),
        ("length", 1, "0.3048", "ft foot feet"), ("length", 1, "0.9144", "yd yard"),
        ("length", 1, "1609.344", "mi mile"),
        ("length", 1, "1/1000000000", "nm nanometer nanometre"), ("length", 1, "1/1000000", "micrometer micrometre"),
        ("mass", 1, "1", "kg kilogram 千克 公斤"), ("mass", 1, "1/1000", "g gram 克"),
        ("mass", 1, "1/1000000", "mg milligram 毫克"), ("mass", 1, "1000", "ton tonne 吨"),
        ("mass", 1, "0.45359237", "lb pound"), ("mass", 1, "0.028349523125", "oz ounce"),
        ("time", 1, "1", "s sec second 秒 秒钟"), ("time", 1, "60", "min minute 分钟"),
        ("time", 1, "3600", "h hr hour 小时 时"), ("time", 1, "86400", "day 天"), ("time", 1, "604800", "week 周"),
        ("month", 1, "1", "month 个月 月"), ("month", 1, "12", "year yr 年"), ("time", 1, "1/1000", "ms millisecond"),
        ("age", 1, "1", "岁"), ("length", 3, "1/1000", "l liter litre 升"),
        ("length", 3, "1/1000000", "ml milliliter millilitre 毫升"), ("length", 3, "0.003785411784", "gallon gal"),
        ("length", 2, "10000", "hectare 公顷"), ("length", 2, "4046.8564224", "acre"),
        ("length", 2, "1", "平方米"), ("length", 2, "1/10000", "平方厘米"), ("length", 2, "1000000", "平方千米"),
        ("length", 2, "1/100", "平方分米"), ("length", 3, "1", "立方米"), ("length", 3, "1/1000000", "立方厘米"),
        ("length", 3, "1/1000", "立方分米"),
        ("dollar", 1, "1", "dollar usd buck 美元"), ("dollar", 1, "1/100", "cent"), ("euro", 1, "1", "euro eur 欧元"),
        ("pound sterling", 1, "1", "gbp sterling 英镑"), ("yuan", 1, "1", "yuan cny rmb 元 块"),
        ("yuan", 1, "1/10", "角"), ("rupee", 1, "1", "rupee inr rs"), ("yen", 1, "1", "yen jpy 日元"),
        ("angle", 1, "1", "degree deg 度"), ("radian", 1, "1", "radian rad"),
        ("temperature", 1, "1", "celsius"), ("fahrenheit", 1, "1", "fahrenheit"), ("kelvin", 1, "1", "k kelvin"),
        ("energy", 1, "1", "j joule 焦耳"), ("energy", 1, "1000", "kj kilojoule"), ("calorie", 1, "1", "cal calorie"),
        ("calorie", 1, "1000", "kcal kilocalorie"), ("energy", 1, "3600000", "kwh"), ("eV", 1, "1", "ev"),
        ("force", 1, "1", "n newton 牛 牛顿"), ("power", 1, "1", "w watt 瓦"), ("power", 1, "1000", "kw kilowatt"),
        ("voltage", 1, "1", "v volt 伏"), ("current", 1, "1", "a amp ampere 安"), ("resistance", 1, "1", "ohm Ω 欧"),
        ("frequency", 1, "1", "hz hertz"), ("amount", 1, "1", "mol mole"), ("pressure", 1, "1", "pa pascal"),
        ("charge", 1, "1", "c coulomb"), ("data", 1, "1", "byte"), ("bit", 1, "1", "bit"), ("tesla", 1, "1", "t tesla"),
    ):  # fmt: skip
        for name in names.split():
            table[name] = (dimension, power, Fraction(factor))
    return table


UNITS = _units()
CURRENCIES = ("dollar", "euro", "sterling", "yuan", "rupee")
"""Currencies with a sign of their own."""
SPEEDS = {"mph": "mi/h", "kph": "km/h", "kmph": "km/h", "kmh": "km/h"}
ONE_LETTER = frozenset("mgshlLJNVWKCFAT")
"""Letters that are a unit where they stand apart behind a plain number."""
GLUED = frozenset(("cm", "mm", "km", "kg", "ft", "mph", "kph", "lbs", "dm", "kWh", "kJ", "Hz", "mol"))
"""Units that may touch their number and are no product of variables."""
SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "百": 100, "千": 1000, "万": 10**4, "亿": 10**8, "百万": 10**6, "千万": 10**7, "score": 20, "pair": 1, "pairs": 1,
}  # fmt: skip
NOT_A_NOUN = frozenset(
    "not no nor or but is are was were be been isn aren maybe perhaps possibly probably wrong false incorrect "  # noqa: SIM905
    "than least most only out squared cubed half halves quarter third thirds fourths fifths tenth tenths hundredths "
    "times factorial mod modulo plus minus divided over under about around approximately almost nearly roughly up down "
    "if unless except instead either neither never cannot can could would should may might sure unknown unsure "
    "answer correct right because since so then thus hence therefore which that where when and to from between".split()
)
ANY_NOUN = frozenset(
    [
        "of",
        "the",
        "a",
        "an",
        "each",
        "every",
        "total",
        "old",
        "long",
        "wide",
        "high",
        "tall",
        "deep",
        "all",
        "left",
        "remaining",
        "more",
        "altogether",
        "unit",
        "point",
        "way",
        "item",
        "thing",
        "object",
        "time",
        "piece",
        "element",
        "person",
        "people",
        "number",
        "value",
        "whole",
        "个",
        "只",
        "本",
        "种",
        "次",
        "人",
        "名",
        "条",
        "张",
        "辆",
        "支",
        "页",
        "件",
        "棵",
        "根",
        "块",
        "颗",
        "位",
        "套",
        "双",
        "对",
        "组",
        "箱",
        "盒",
        "瓶",
        "袋",
        "杯",
        "株",
        "头",
        "匹",
        "架",
        "艘",
        "座",
        "间",
        "层",
        "题",
        "道",
        "分",
    ]
)
"""Nouns that fit whatever was counted."""
DENIED = re.compile("[不没非错否无]")
PART = re.compile(
    r"(?P<square>square|sq\.?|cubic|cu\.?)?\s*(?P<name>[^\s^0-9{}]+)\s*(?:\^?\s*\{?\s*(?P<power>-?[1-9])\s*\}?)?$"
)


@dataclass(frozen=True)
class Unit:
    """What stands behind a number."""

    dimension: Dimension = ()
    """Dimensions with their powers; empty for a noun."""
    factor: Fraction = Fraction(1)
    """Times the dimension's own unit."""
    scale: Fraction = Fraction(1)
    """Of a word such as `million`, which belongs to the number."""
    nouns: frozenset[str] = frozenset()

    def fits(self, other: "Unit") -> bool:
        """Whether two things written behind numbers may be one: a dimension, or a noun that they share."""
        if self.dimension and other.dimension:
            return self.dimension == other.dimension
        if not self.named or not other.named:
            return True
        return bool(self.nouns & other.nouns)

    @property
    def named(self) -> bool:
        return bool(self.dimension) or bool(self.nouns)


def read_unit(phrase: str) -> Unit:
    """The unit that a phrase names. Raises `Unreadable` for words that do more than name something."""
    phrase = " ".join(phrase.replace("\\Omega", "Ω").replace(".", " ").split())
    if DENIED.search(phrase) or len(phrase) > 80:
        raise Unreadable(phrase)
    for name, meaning in SPEEDS.items():
        phrase = re.sub(rf"\b{name}\b", meaning, phrase)
    parts = re.split(r"\s*(?:/|\bper\b|每)\s*", phrase)
    dimension: dict[str, int] = {}
    factor, scale, nouns = Fraction(1), Fraction(1), set()
    for place, part in enumerate(parts):
        found, scaled, words = read_part(part)
        scale *= scaled if not place else 1 / scaled
        nouns |= words
        for name, power, size in found:
            sign = 1 if not place else -1
            dimension[name] = dimension.get(name, 0) + sign * power
            factor *= size**sign
    known = tuple(sorted((name, power) for name, power in dimension.items() if power))
    return Unit(known, factor if known else Fraction(1), scale, frozenset() if known else frozenset(nouns))


def read_part(part: str) -> tuple[list[tuple[str, int, Fraction]], Fraction, set[str]]:
    """Of a phrase without a division: its dimensions, the scale of its words, its nouns."""
    words = re.sub(r"\s*\^\s*", "^", part).replace("·", " ").split()
    found, scale, nouns, power_of_next = [], Fraction(1), set(), 1
    for word in words:
        lower = word.lower()
        if lower in NOT_A_NOUN:
            raise Unreadable(part)
        if lower in SCALES:
            scale *= SCALES[lower]
        elif lower in ("square", "sq", "cubic", "cu"):
            power_of_next = 2 if lower in ("square", "sq") else 3
        elif lower == "in" and found:
            continue
        elif known := dimension_of(word, power_of_next):
            found.append(known)
            power_of_next = 1
        elif singular(lower) not in ANY_NOUN and not re.fullmatch(r"\^?\{?-?[0-9]\}?", lower):
            nouns.add(singular(lower))
            power_of_next = 1
    return found, scale, nouns


def dimension_of(word: str, power: int) -> tuple[str, int, Fraction] | None:
    match = PART.match(word)
    if match is None:
        return None
    name = match["name"]
    known = UNITS.get(name) or UNITS.get(name.lower()) or UNITS.get(singular(name.lower()))
    if known is None or (name in ("A", "T", "C", "V", "N", "W", "J", "K") and len(word) > 2):
        return None
    power *= int(match["power"] or 1)
    return known[0], known[1] * power, known[2] ** power


def singular(noun: str) -> str:
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") and len(noun) > 2 else noun
