"""The words of a formula: numbers, letters, commands, brackets and signs."""

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.grading.units import GLUED, UNITS, Unreadable

MAX_TOKENS = 600
MAX_DIGITS = 20_000
"""Digits of a number; a longer one is only compared as text."""

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth ln log lg exp max min gcd "  # noqa: SIM905
    "lcm sqrt floor ceil Re Im arg".split()
)
SPELLED = {"pi": ("command", "pi"), "infinity": ("command", "infty"), "inf": ("command", "infty"),
           "oo": ("command", "infty"), "and": ("word", "and"), "or": ("word", "or"), "mod": ("command", "bmod"),
           "abs": ("command", "abs"), "infty": ("command", "infty"), "emptyset": ("command", "emptyset"),
           "cup": ("command", "cup"), "union": ("command", "cup"), "U": ("letter", "U")}  # fmt: skip
SPELLED_FUNCTION = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|sqrt|ln|log|lg|exp|max|min|gcd|lcm|pi|infty|infinity|abs|cup|and|or|mod"
)
TOKEN = re.compile(
    r"""
    (?P<blank>\s+)
  | (?P<based>[0-9A-F]*[0-9][0-9A-F]*)_\{?(?P<base>1[1-9]|2[0-9]|3[0-6])\}?
  | (?P<number>[0-9]+(?:\.[0-9]+|\.(?=\\(?:overline|dot)|\([0-9]+\)\s*$))?|\.[0-9]+)
    (?:(?P<repeat>\\overline\s*(?:\{\s*[0-9]+\s*\}|[0-9])|\\dot\s*\{?[0-9]\}?(?:[0-9]*\\dot\s*\{?[0-9]\}?)?
         |\([0-9]+\)(?=\s*$))
      |(?P<power>[eE][+-]?[0-9]+(?![0-9.])))?
  | \\text\{(?P<text>[^{}]*)\}
  | \\(?P<set>mathbb|mathcal|mathfrak)\s*\{?\s*(?P<set_name>[A-Za-z])\s*\}?
  | \\(?P<command>[A-Za-z]+)
  | (?P<row>\\\\)
  | \\(?P<brace>[{}])
  | (?P<word>[A-Za-z]+)
  | (?P<characters>[\u4e00-\u9fff]+)
  | (?P<relation><=|>=|!=|==|[<>=])
  | (?P<sign>[-+*/^_(){}\[\],;:|!%°'&])
  """,
    re.VERBOSE,
)
GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:(?:,[0-9]{3})+|(?:[ ][0-9]{3})+)(?![0-9])")
RELATIONS = {"<=": "le", ">=": "ge", "!=": "ne", "==": "=", "=": "=", "<": "<", ">": ">"}


@dataclass(frozen=True)
class Token:
    """One word of a formula."""

    kind: str
    """number, letter, command, text, set, row, open, close, relation, sign, word or end."""
    value: str
    apart: bool = False
    """Whether white space stands before it."""
    number: Fraction | None = None
    decimals: int | None = None
    """Digits after the decimal point, of a number that was written with one and does not repeat."""


END = Token("end", "")


def tokens_of(text: str) -> list[Token]:
    """The words of a formula in the notation of `notation.formula`. Raises `Unreadable`."""
    tokens: list[Token] = []
    position, apart, depth = 0, False, 0
    while position < len(text):
        grouped = GROUPED.match(text, position) if depth == 0 and may_be_grouped(text, position, tokens) else None
        if grouped:
            end = position + len(grouped.group())
            decimals = re.compile(r"\.[0-9]+").match(text, end)
            whole = re.sub("[ ,]", "", grouped.group()) + (decimals.group() if decimals else "")
            tokens.append(number_token(whole, apart))
            position, apart = end + (len(decimals.group()) if decimals else 0), False
            continue
        match = TOKEN.match(text, position)
        if match is None:
            raise Unreadable(text[position])
        position = match.end()
        if match["blank"]:
            apart = True
            continue
        found = read(match, apart, tokens[-1] if tokens else END)
        depth += sum((t.kind == "open") - (t.kind == "close") for t in found)
        tokens += found
        apart = False
        if len(tokens) > MAX_TOKENS:
            raise Unreadable("too long")
    return tokens


def may_be_grouped(text: str, position: int, tokens: list[Token]) -> bool:
    return text[position].isdigit() and not (position and text[position - 1] in "0123456789.,_^\\")


def read(match: re.Match[str], apart: bool, before: Token) -> list[Token]:
    """The tokens of one match: several where letters stand side by side."""
    if match["based"]:
        return [Token("based", match["based"] + "_" + match["base"], apart)]
    if match["number"]:
        return [number_token(match["number"], apart, match["repeat"], match["power"])]
    if match["text"] is not None:
        return in_words(match["text"], apart)
    if match["set"]:
        return [Token("set", match["set_name"], apart)]
    if match["command"]:
        return [command_token(match["command"], apart)]
    if match["row"]:
        return [Token("row", "\\\\", apart)]
    if match["brace"]:
        return [Token("open" if match["brace"] == "{" else "close", "\\" + match["brace"], apart)]
    if match["relation"]:
        return [Token("relation", RELATIONS[match["relation"]], apart)]
    if match["characters"]:
        return [Token("word", match["characters"], apart)]
    if match["word"]:
        if is_noun(match["word"], apart, before):
            return [Token("word", match["word"], apart)]
        return spelled(match["word"], apart)
    sign = match["sign"]
    kind = "open" if sign in "([{" else "close" if sign in ")]}" else "sign"
    return [Token(kind, sign, apart)]


JOINED = re.compile(r"(?P<before>.*\S)\s+(?P<word>and|or)\s*|\s*(?P<first>and|or)\s+(?P<behind>\S.*)", re.DOTALL)


def in_words(text: str, apart: bool) -> list[Token]:
    """The words of a text command; an `and` or `or` at its edge joins what stands on both sides."""
    match = JOINED.fullmatch(text)
    if match is None:
        return [Token("text", text, apart)]
    pieces = (match["before"], match["word"]) if match["before"] else (match["first"], match["behind"])
    return [Token("text", piece, apart or bool(place)) for place, piece in enumerate(pieces)]


def command_token(name: str, apart: bool) -> Token:
    if name in ("le", "ge", "ne", "approx", "in", "notin", "to", "equiv", "subset", "subseteq", "sim", "cong"):
        return Token("relation", name, apart)
    if name in ("langle", "rangle"):
        return Token("open" if name == "langle" else "close", name, apart)
    if name in ("lfloor", "lceil"):
        return Token("open", name, apart)
    if name in ("rfloor", "rceil"):
        return Token("close", name, apart)
    if name in ("cdot", "times"):
        return Token("sign", "*", apart)
    if name == "div":
        return Token("sign", "/", apart)
    return Token("command", name, apart)


def is_noun(word: str, apart: bool, before: Token) -> bool:
    """Whether letters behind a number or a noun are one too, and no product of variables."""
    if word == "min" and apart and before.kind == "number":
        return True
    if word in SPELLED or word in FUNCTIONS:
        return False
    if before.kind in ("word", "text"):
        return before.value.strip(" ,").lower() not in ("and", "or")
    if before == Token("sign", "/") and len(word) > 1:
        return apart or word in GLUED
    if before.kind not in ("number", "close") and before.value not in ("!", "°", "%"):
        return False
    return word in GLUED or (apart and len(word) > 1 and (len(word) > 2 or word.lower() in UNITS))


def spelled(word: str, apart: bool) -> list[Token]:
    """Letters side by side: a name that is spelled out, a product of variables, or a word."""
    if word in SPELLED:
        return [Token(*SPELLED[word], apart)]
    if word in FUNCTIONS:
        return [Token("command", word, apart)]
    if len(word) == 1:
        return [Token("letter", word, apart)]
    start = SPELLED_FUNCTION.match(word)
    if start and len(word) - len(start.group()) <= 1 and start.group() not in ("and", "or", "mod"):
        return [*spelled(start.group(), apart), *spelled(word[start.end() :], False)]
    if len(word) > 4:
        return [Token("word", word.lower(), apart)]
    return [Token("letter", letter, apart and not index) for index, letter in enumerate(word)]


def number_token(digits: str, apart: bool, repeat: str | None = None, power: str | None = None) -> Token:
    """A number, exactly; a repeating decimal too."""
    if len(digits) > MAX_DIGITS:
        raise Unreadable("too many digits")
    whole, _, decimals = digits.partition(".")
    value = Fraction(whole_number(whole + decimals or "0"), 10 ** len(decimals))
    if repeat:
        period = "".join(re.findall("[0-9]", repeat))
        if "." not in digits or not period:
            raise Unreadable(repeat)
        value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(decimals))
        return Token("number", digits, apart, value)
    if power:
        exponent = int(power[1:])
        if abs(exponent) > MAX_DIGITS:
            raise Unreadable("too large")
        value *= Fraction(10) ** exponent
        return Token("number", digits, apart, value, max(0, len(decimals) - exponent) or None)
    return Token("number", digits, apart, value, len(decimals) if decimals else None)


def whole_number(digits: str) -> int:
    """The value of many digits; Python refuses to read more than a few thousand at a time."""
    if len(digits) <= 4000:
        return int(digits)
    half = len(digits) // 2
    return whole_number(digits[:half]) * 10 ** (len(digits) - half) + whole_number(digits[half:])
