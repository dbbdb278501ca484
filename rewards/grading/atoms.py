"""The smallest parts of a formula: numbers, names, commands with their arguments, brackets, matrices."""

from fractions import Fraction
from typing import Any

from rewards.grading.ornaments import BASES
from rewards.grading.tokens import END, FUNCTIONS, Token
from rewards.grading.units import CURRENCIES, Unreadable

MAX_NESTING = 25
"""Brackets inside brackets."""
GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "  # noqa: SIM905
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar".split()
)
CLOSING = {"(": (")", "]"), "[": ("]", ")", "["), "{": ("}",), "\\{": ("\\}",), "langle": ("rangle",),
           "lfloor": ("rfloor",), "lceil": ("rceil",), "]": ("[", "]")}  # fmt: skip
MATRICES = frozenset(("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array", "cases", "aligned", "vmatrix"))
FUNCTION_LETTERS = frozenset("fghFGHPT")
"""Letters that name a function where brackets follow; any other is a factor."""

Node = tuple[Any, ...]


class Atoms:
    """The part of the reader that reads one atom; the expressions inside are its heir's."""

    tokens: list[Token]
    position: int
    depth: int
    bars: int
    in_set: int

    @property
    def next(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else END

    def peek(self, ahead: int = 1) -> Token:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else END

    def at(self, kind: str, *values: str) -> bool:
        return self.next.kind == kind and (not values or self.next.value in values)

    def take(self, kind: str, *values: str) -> Token | None:
        """Step over the next word if it is one of these."""
        if not self.at(kind, *values):
            return None
        self.position += 1
        return self.tokens[self.position - 1]

    def need(self, kind: str, *values: str) -> Token:
        token = self.take(kind, *values)
        if token is None:
            raise Unreadable(f"{self.next.value!r} instead of {values or kind}")
        return token

    def atom(self) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise Unreadable("nested too deep")
        node = self.read_atom()
        self.depth -= 1
        return node

    def read_atom(self) -> Node:
        token = self.next
        self.position += 1
        if token.kind == "number":
            return self.based(token) or ("num", token.number, token.decimals)
        if token.kind == "based":
            return ("based", *token.value.split("_"))
        if token.kind == "letter":
            return self.named(token.value)
        if token.kind == "open" or (token.kind == "close" and token.value == "]"):
            return self.bracketed(token.value)
        if token == Token("sign", "|", token.apart):
            return self.absolute()
        if token.kind == "set":
            return self.domain(token.value)
        if token.kind == "command":
            return self.command(token.value)
        if token.kind in ("text", "word"):
            words = token.value.strip()
            return ("var", words) if len(words) == 1 and words.isalpha() and words.isascii() else ("words", words)
        raise Unreadable(f"{token.value!r}")

    def based(self, number: Token) -> Node | None:
        """A number with its base written below it; one in base ten is itself."""
        if not self.take("sign", "_"):
            return None
        base = self.below().removeprefix("base").strip()
        base = BASES.get(base.lower(), base)
        return ("num", number.number, number.decimals) if base == "10" else ("based", number.value, base)

    def below(self) -> str:
        """What stands in a subscript, as text."""
        if not self.take("open", "{"):
            token = self.next
            self.position += 1
            if token.kind not in ("number", "letter", "command", "text"):
                raise Unreadable(f"a subscript {token.value!r}")
            if token.kind == "number" and len(token.value) > 1:
                raise Unreadable("a subscript of several figures without braces")
            return token.value
        written, depth = [], 1
        while depth:
            token = self.next
            self.position += 1
            if token.kind == "end":
                raise Unreadable("a subscript that never ends")
            depth += (token.value == "{") - (token.value == "}")
            written.append(token.value.strip())
        return "".join(written[:-1])

    def named(self, letter: str) -> Node:
        name = letter
        if self.at("sign", "_") and self.peek().kind != "end":
            self.position += 1
            name += "_" + self.below()
        while self.take("sign", "'"):
            name += "'"
        defined = self.at("open", "(") and self.peek().kind == "letter" and self.peek(2) == Token("close", ")")
        if self.at("open", "(") and (letter in FUNCTION_LETTERS or (defined and self.peek(3).value == "=")):
            self.position += 1
            inside = self.bracketed("(")
            return ("opaque", name, inside[1] if inside[0] == "group" else [inside])
        if name in ("e", "i"):
            return ("const", name)
        return ("var", name)

    def absolute(self) -> Node:
        self.bars += 1
        inside = self.sum()
        self.bars -= 1
        self.need("sign", "|")
        return ("call", "abs", [inside], None)

    def domain(self, name: str) -> Node:
        if self.take("sign", "^"):
            mark = self.argument() if not self.at("sign", "+", "-", "*") else ("sign", self.take("sign").value)
            return ("domain", f"{name}^{mark}")
        if self.take("sign", "_"):
            return ("domain", f"{name}_{self.below()}")
        return ("domain", name)

    def command(self, name: str) -> Node:
        if name in ("frac", "binom"):
            above = self.argument()
            return ("div" if name == "frac" else "binom", above, self.argument())
        if name == "sqrt":
            return self.root()
        if name in ("pi", "infty"):
            return ("const", name)
        if name in GREEK:
            return self.named("\\" + name)
        if name in FUNCTIONS or name == "abs":
            return self.function(name)
        if name in CURRENCIES:
            return ("unit", self.product(), name)
        if name == "emptyset":
            return ("set", [])
        if name == "begin":
            return self.environment()
        if name in ("angle", "triangle", "overline", "overrightarrow", "vec", "hat", "bar", "widehat", "tilde"):
            return self.geometric(name)
        raise Unreadable(f"\\{name}")

    def geometric(self, name: str) -> Node:
        """The name of an angle, a segment or a vector: letters behind the mark, one name together."""
        braces = bool(self.take("open", "{"))
        letters = ""
        while token := self.take("letter"):
            letters += token.value
        if not letters or (braces and not self.take("close", "}")):
            raise Unreadable(f"\\{name} of no letters")
        return ("var", f"\\{name} {letters}")

    def root(self) -> Node:
        degree = ("num", Fraction(2), None)
        if self.take("open", "["):
            degree = self.sum()
            self.need("close", "]")
        return ("root", self.argument(), degree)

    def function(self, name: str) -> Node:
        below = exponent = None
        while True:
            if self.take("sign", "_"):
                below = self.argument()
            elif self.take("sign", "^"):
                exponent = self.argument()
            else:
                break
        arguments = self.arguments()
        if exponent == ("neg", ("num", 1, None)) and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            name, exponent = "arc" + name, None
        called = ("call", name, arguments, below)
        return called if exponent is None else ("pow", called, exponent)

    def arguments(self) -> list[Node]:
        """In brackets, or the product up to the next sign or function: `\\sin 2x\\cos x` is two factors."""
        if self.at("open", "(") or self.at("open", "\\{") or self.at("open", "["):
            opening = self.take("open").value
            inside = self.bracketed(opening)
            return list(inside[1]) if inside[0] in ("group", "set") else [inside]
        negative = bool(self.take("sign", "-"))
        argument = self.power()
        while self.starts_factor() and not self.is_function() and not self.at("open", "("):
            argument = self.beside(argument)
        return [("neg", argument)] if negative else [argument]

    def is_function(self) -> bool:
        return self.next.kind == "command" and self.next.value in FUNCTIONS and self.next.value != "sqrt"

    def bracketed(self, opening: str) -> Node:
        """What stands in brackets that have just been opened: one thing is itself, several are a group."""
        if opening == "\\{" and self.take("close", "\\}"):
            return ("set", [])
        if opening == "{":
            return self.braced()
        bars, self.bars = self.bars, 0
        self.in_set += opening == "\\{"
        items, joiner = self.items()
        if opening == "\\{" and self.at("sign", "|", ":"):
            self.position += 1
            conditions, joiner = self.items()
            items = [("builder", items[0], conditions, joiner)]
        self.in_set -= opening == "\\{"
        self.bars = bars
        closing = self.next
        if closing.value not in CLOSING[opening] or closing.kind not in ("close", "open"):
            raise Unreadable(f"{opening} closed by {closing.value!r}")
        self.position += 1
        if opening == "\\{":
            return items[0] if items[0][0] == "builder" else ("set", items)
        if opening in ("lfloor", "lceil"):
            return ("call", "floor" if opening == "lfloor" else "ceil", items, None)
        if len(items) == 1 and {opening, closing.value} in ({"(", ")"}, {"[", "]"}):
            return items[0]
        round_ = opening == "langle"
        return ("group", items, "(" if round_ else opening, ")" if round_ else closing.value)

    def braced(self) -> Node:
        """What LaTeX braces hold together, `\\over` and `\\choose` among it."""
        items, joiner = self.items()
        if token := self.take("command", "over", "choose"):
            items = [("div" if token.value == "over" else "binom", items[0], self.sum())]
        self.need("close", "}")
        return items[0] if len(items) == 1 else ("list", items, joiner)

    def environment(self) -> Node:
        """A matrix, or the lines of a system of equations."""
        name = self.environment_name()
        if name == "array":
            self.environment_name()
        rows: list[list[Node]] = [[]]
        while True:
            while self.take("row"):
                if self.at("open", "[") and self.peek().kind == "number":
                    while not self.take("close", "]"):
                        self.position += 1
                        if self.next is END:
                            raise Unreadable("a row that never ends")
                if rows[-1]:
                    rows.append([])
            if self.take("command", "end"):
                break
            if self.take("sign", "&"):
                continue
            rows[-1].append(self.statement())
            self.take("sign", ",", ";")
        self.environment_name()
        rows = [row for row in rows if row]
        if name in ("cases", "aligned"):
            if any(len(row) != 1 for row in rows):
                raise Unreadable("cases of several columns")
            return ("list", [row[0] for row in rows], ",")
        if not rows or len({len(row) for row in rows}) != 1 or name == "vmatrix":
            raise Unreadable("rows of different lengths")
        return ("matrix", rows)

    def environment_name(self) -> str:
        self.need("open", "{")
        name = ""
        while not self.take("close", "}"):
            if self.next is END:
                raise Unreadable("an environment without a name")
            name += self.next.value
            self.position += 1
        return name
