"""Whether two mathematical answers are equal.

`compare_plain` settles what text, words, times, plain numbers and exact fractions can, in the caller's process and in
a number of steps that the length of the text bounds. What needs roots, logarithms or complex numbers is left to
`compare` in a worker process that can be killed (`rewards.grading.pool`), and there what the reader of formulas does
not know to math-verify (`rewards.grading.algebra`).
"""

import re
import unicodedata
from typing import Any

from rewards.grading.algebra import same_by_algebra
from rewards.grading.arithmetic import compare_values
from rewards.grading.atoms import MAX_NESTING, Node
from rewards.grading.clock import same_time
from rewards.grading.equality import Comparison, prepared
from rewards.grading.formulas import Apart, read_formula
from rewards.grading.notation import INVISIBLE, formula, squeeze, tidy
from rewards.grading.number_words import in_digits, read_number, same_number
from rewards.grading.ornaments import without_modulus
from rewards.grading.readings import readings
from rewards.grading.repairs import as_list, repaired
from rewards.grading.scalars import walk
from rewards.grading.tokens import FUNCTIONS
from rewards.grading.units import Unreadable
from rewards.grading.values import Inexact, TooLarge, Undefined
from rewards.grading.verdict import Verdict

MAX_ANSWER = 1000
"""Characters; a longer answer is only compared as text."""

WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
NO_PROSE = FUNCTIONS | {"mod", "deg", "pi", "inf", "infinity", "or", "and", "abs", "cup", "infty"}
UNEVALUATED = re.compile(r"\\(?:int|iint|oint|sum|prod|lim)(?![A-Za-z])")
"""What a final answer must have worked out, unless the gold answer leaves it too."""
SYMBOLS = (
    (
        r"(?:there (?:is|are) )?no (?:real |integer |such |possible )?(?:solutions?|roots?|values?)(?: exists?)?"
        r"(?:\s*[:,(]?\s*(?:\\(?:oslash|emptyset|varnothing)|∅))?|(?:the )?empty set|null set|无解|无实数解|空集",
        r"\emptyset",
    ),
    (
        r"(?:\\\{\s*)?(?:all|any|every|the set of (?:all )?)\s*real(?: number)?s?"
        r"\.?(?:\s*\\\})?(?:\s*:\s*\\mathbb\s*\{?r\}?)?|\(?-(?:infinity|oo), (?:infinity|oo)\)?"
        r"|全体实数|一切实数|任意实数",
        r"\mathbb{R}",
    ),
    (r"(?:positive )?infinity|infinitely many(?: solutions)?|无穷(?:大|多)", r"\infty"),
    (r"all integers|全体整数", r"\mathbb{Z}"),
    (r"dne|(?:(?:the )?(?:limit|it) )?(?:does not|doesn't|doesn’t) exist|不存在", r"\text{does not exist}"),
)
"""Words that stand for a symbol."""
WITH_POINT = re.compile(r"[-+]?[0-9]*\.[0-9]+")
WITH_COMMA = re.compile(r"[-+]?(?!(?:[1-9][0-9]{0,2}),[0-9]{3}$)[0-9]+,[0-9]{2,}")
SYMBOLS_READ = tuple((re.compile(words), symbol) for words, symbol in SYMBOLS)


def compare_plain(gold: str, answer: str, percent_asked: bool = True) -> Verdict | None:
    """Settle a comparison without algebra; None where it takes some. Safe on any input.

    `percent_asked` says whether the question may ask for a figure in percent, so that 50 and 50 % are one.
    """
    gold, answer = as_list(gold), as_list(answer)
    settled = compare_text(gold, answer)
    if settled is not None:
        return settled
    gold, answer = symbol(repaired(gold)), symbol(repaired(answer))
    time = same_time(tidy(gold), tidy(answer))
    if time is not None:
        return Verdict.CORRECT if time else Verdict.WRONG
    ours, theirs = decimal_comma(*without_modulus(formula(gold, gold=True), formula(answer)))
    if without_braces(ours) == without_braces(theirs) and not adjacent(answer):
        return Verdict.CORRECT
    if is_prose(tidy(gold)) and is_prose(tidy(ours)):
        return Verdict.CORRECT if said_words(gold) == said_words(answer) else Verdict.WRONG
    gold_number, answer_number = read_number(ours), read_number(theirs)
    if gold_number is not None and answer_number is not None and (percent_asked or not answer_number.percent):
        return Verdict.CORRECT if same_number(gold_number, answer_number) else Verdict.WRONG
    if set(UNEVALUATED.findall(theirs)) - set(UNEVALUATED.findall(ours)) or nesting(theirs) > MAX_NESTING:
        return Verdict.WRONG
    return compare_formulas(ours, theirs, None, percent_asked)


def decimal_comma(gold: str, answer: str) -> tuple[str, str]:
    """The two with a comma for a decimal point where the other side has a point and it groups no thousands."""
    one, other = bool(WITH_POINT.fullmatch(gold)), bool(WITH_POINT.fullmatch(answer))
    if one and WITH_COMMA.fullmatch(answer):
        return gold, answer.replace(",", ".")
    return (gold.replace(",", "."), answer) if other and WITH_COMMA.fullmatch(gold) else (gold, answer)


def compare_text(gold: str, answer: str) -> Verdict | None:
    """What the two texts settle alone."""
    ours, theirs = tidy(gold[: 100 * MAX_ANSWER]), tidy(answer[: 100 * MAX_ANSWER])
    if not ours:
        return Verdict.GOLD_UNUSABLE
    if squeeze(ours) == squeeze(theirs) and not adjacent(answer):
        return Verdict.CORRECT
    if not theirs:
        return Verdict.NO_ANSWER
    if max(len(theirs), len(ours)) > MAX_ANSWER or not has_digit_or_letter(theirs) or has_foreign_digit(theirs):
        return Verdict.WRONG
    return None


def adjacent(answer: str) -> bool:
    """Whether two formulas stand side by side without a word between them."""
    return bool(re.search(r"[0-9}]\s*(?:\$\s*\$|\\\)\s*\\\()\s*[0-9\\]", answer.strip().removeprefix("$$")))


def compare_formulas(gold: str, answer: str, context: Any, percent_asked: bool = True) -> Verdict | None:
    """Compare two texts as formulas; None where it takes algebra, or roots and there is no mpmath context."""
    try:
        ours = read_formula(gold)
    except Apart:
        return Verdict.WRONG
    except Unreadable:
        return None
    try:
        theirs = read_formula(answer)
        same = any(Comparison(context, percent_asked).same(*pair) for pair in readings(ours, theirs))
    except Inexact:
        return by_floats(gold, answer, ours, theirs)
    except (Apart, Undefined, TooLarge, RecursionError):
        return Verdict.WRONG
    except Unreadable:
        return None if "\\" in answer.replace("\\text", "") else Verdict.WRONG
    return Verdict.CORRECT if same else Verdict.WRONG


def by_floats(gold: str, answer: str, *trees: Node) -> Verdict | None:
    """Two expressions of roots, powers and π by their values in floating point, where those are far apart or equal."""
    if any(tree[0] in ("unit", "degree", "percent", "pm", "rel", "list") for node in trees for tree in walk(node)):
        return None
    return compare_values(gold, answer)


def members(gold: str) -> int:
    """How many members the gold has, of a list, a set or a group; else one."""
    try:
        tree = prepared(read_formula(formula(gold, gold=True)))
    except Unreadable:
        return 1
    return len(tree[1]) if tree[0] in ("list", "set", "group") else 1


def in_brackets_of(gold: str, parts: list[str]) -> str:
    """The members of an answer, put into the brackets that the gold has."""
    joined = ", ".join(parts)
    tree = read_formula(formula(gold, gold=True))
    return f"{tree[2]}{joined}{tree[3]}" if tree[0] == "group" else joined


def compare(payload: dict[str, Any]) -> str:
    """Compare `payload["answer"]` with `payload["gold"]` , or with another reading of it, by every means; for a
    worker process only."""
    said = [compare_one(payload["gold"], answer, payload.get("percent_asked", True))
            for answer in (payload["answer"], *payload.get("others", ()))]  # fmt: skip
    return Verdict.CORRECT if Verdict.CORRECT in said else said[0]


def compare_one(gold: str, answer: str, percent_asked: bool) -> Verdict:
    """Compare one reading of an answer."""
    from mpmath import MPContext

    settled = compare_plain(gold, answer, percent_asked)
    if settled is not None:
        return settled
    ours, theirs = formula(symbol(repaired(gold)), gold=True), formula(symbol(repaired(answer)))
    try:
        settled = compare_formulas(ours, theirs, MPContext(), percent_asked)
    except (ArithmeticError, ValueError, TypeError):
        settled = Verdict.WRONG  # no value that could be compared, so none that is equal
    if settled is not None:
        return settled
    same = same_by_algebra(ours, theirs)
    if same is None:
        return Verdict.WRONG if is_readable(ours) else Verdict.GOLD_UNUSABLE
    return Verdict.CORRECT if same else Verdict.WRONG


def is_readable(gold: str) -> bool:
    try:
        read_formula(gold)
    except Unreadable:
        return False
    return True


def is_usable_gold(gold: str) -> bool | None:
    """Whether answers can be compared with a gold answer; None where only algebra, in a worker, can tell.

    What the reader of formulas knows, and what is compared as words or as text, needs no worker and no answer.
    """
    text = symbol(repaired(as_list(gold)))
    if not tidy(gold[: 100 * MAX_ANSWER]):
        return False
    if len(text) > MAX_ANSWER or is_readable(formula(text, gold=True)) or is_prose(tidy(text)):
        return True
    return None


def symbol(text: str) -> str:
    """The symbol or the number that a text says in words ("no solution", "two thirds"); any other text as it is."""
    if len(text) > 60 or not re.search("[a-z\u4e00-\u9fff]|DNE", text):
        return text
    words = prose_key(tidy(text))
    if number := in_digits(words):
        return number
    return next((sign for pattern, sign in SYMBOLS_READ if pattern.fullmatch(words)), text)


def has_digit_or_letter(text: str) -> bool:
    return "\\{" in text or any(character.isalnum() or character in "∞∅" for character in text)


def has_foreign_digit(text: str) -> bool:
    """Whether a digit of another script, or a character that cannot be seen, stands in the answer."""
    if text.isascii():
        return False
    return any(
        character in INVISIBLE
        or (character.isdecimal() and not character.isascii())
        or (character.isdigit() and unicodedata.category(character) == "No" and not is_raised(character))
        for character in text
    )


def is_raised(character: str) -> bool:
    return unicodedata.decomposition(character).startswith(("<super>", "<sub>"))


def is_prose(gold: str) -> bool:
    """Whether the gold answer is made of words, so that algebra has nothing to say about it."""
    if re.search(r"[0-9=<>^_{}\\]", gold):
        return False
    if re.search(r"[\u4e00-\u9fff]", gold):
        return bool(re.search(r"[\u4e00-\u9fff]{2}", gold)) or not re.search("[或和]", gold)
    words = WORDS.findall(gold)
    return any(word.lower() not in NO_PROSE for word in words) or bool(
        re.search(r"[^\x00-\x7f∞∅π√±×÷·≤≥∪∩ℝ，、（）]", gold)
    )


def without_braces(text: str) -> str:
    """A formula without the braces around single letters and figures, to compare it as text."""
    return squeeze(re.sub(r"(?<=[\^_])\{([0-9A-Za-z])\}", r"\1", text))


def said_words(text: str) -> list[str]:
    """Words to compare; the members of a list in words in any order."""
    words = tidy(text)
    parts = re.split(r"\s*[,，、;]\s*(?:and\s+)?|\s+and\s+", words)
    return sorted(prose_key(part) for part in parts if part)


def prose_key(text: str) -> str:
    """Words compared without case, articles, quotes and brackets around them."""
    text = text.casefold().strip(" \t\n()\"'“”.")
    return " ".join(re.sub(r"^(?:the|an?)\s+", "", text).split())


def nesting(text: str) -> int:
    """How deep the brackets go, closed or not."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def prepare() -> None:
    """Import and warm what `compare` needs, before the first deadline runs."""
    from rewards.grading import algebra

    algebra.prepare()
