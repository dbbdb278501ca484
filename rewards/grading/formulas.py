"""Reading a formula: from its words to a tree of tuples, the first of which is the kind.

Scalars: num, const, var, add, mul, div, pow, neg, pm, fact, call, abs, binom, mod, percent, degree, based.
Structures: list (commas, or, and), group (several things in brackets), set, builder, rel (a chain of relations),
union, inter, minus, ratio, matrix, domain (a named set of numbers), words.

A recursive descent that reads each word once; whatever it does not know raises `Unreadable`, and numbers that stand
apart ("5 6") raise `Apart`: they are no product.
"""

import functools

from rewards.grading.atoms import Atoms, Node
from rewards.grading.tokens import END, Token, tokens_of
from rewards.grading.units import CURRENCIES, ONE_LETTER, Unreadable

TEMPERATURES = {"C": "celsius", "F": "fahrenheit", "K": "kelvin"}


class Apart(Unreadable):
    """Two numbers side by side, which are neither one number nor a product."""


@functools.lru_cache(maxsize=4096)
def read_formula(text: str) -> Node:
    """The tree of a whole formula. Raises `Unreadable`, or `Apart`."""
    try:
        return Reader(tokens_of(text)).whole()
    except (RecursionError, ZeroDivisionError, ValueError, OverflowError) as error:
        raise Unreadable(str(error)) from None


class Reader(Atoms):
    """One pass over the words of a formula."""

    def __init__(self, tokens: list[Token]):
        self.tokens, self.position, self.depth, self.bars, self.in_set = tokens, 0, 0, 0, 0

    def whole(self) -> Node:
        items, joiners = self.items()
        if self.next is not END or not items:
            raise Unreadable(self.next.value)
        return items[0] if len(items) == 1 else ("list", items, joiners)

    def items(self) -> tuple[list[Node], str]:
        """Statements with commas, semicolons, `and` or `or` between them, and which of the words stood there.

        Where semicolons stand between lists with commas, each of those is one item.
        """
        found: list[list[Node]] = [[self.statement()]]
        joiner = ""
        while True:
            sign = self.take("sign", ",", ";")
            word = self.joining_word()
            if not sign and not word:
                break
            joiner = word or joiner or ","
            if self.next is END and sign:
                raise Unreadable("ends in a comma")
            if sign and sign.value == ";":
                found.append([])
            found[-1].append(self.statement())
        if len(found) > 1 and all(len(some) > 1 for some in found):
            return [("list", some, ",") for some in found], joiner
        return [item for some in found for item in some], joiner

    def joining_word(self) -> str:
        if self.next.kind in ("word", "text") and self.next.value.strip().strip(",").lower() in ("and", "or"):
            self.position += 1
            return self.tokens[self.position - 1].value.strip().strip(",").lower()
        return ""

    def statement(self) -> Node:
        """A chain of relations between expressions, or one expression."""
        operands, relations = [], []
        if self.at("relation", "approx", "="):  # "≈ 3", "= 3"
            self.position += 1
        operands.append(self.ratio())
        while relation := self.take("relation"):
            relations.append(relation.value)
            operands.append(self.ratio())
        if self.next == Token("command", "pmod", self.next.apart) and relations:
            self.position += 1
            relations[-1] = "equiv"
            operands.append(self.argument())
            return ("rel", operands, [*relations, "mod"])
        if self.at("open", "(") and self.peek() == Token("command", "bmod") and "equiv" in relations:
            self.position += 2
            operands.append(self.sum())
            self.need("close", ")")
            return ("rel", operands, [*relations, "mod"])
        return ("rel", operands, relations) if relations else operands[0]

    def ratio(self) -> Node:
        terms = [self.union()]
        while not self.in_set and self.at("sign", ":") and self.peek().kind != "relation":
            self.position += 1
            terms.append(self.union())
        return ("ratio", terms) if len(terms) > 1 else terms[0]

    def union(self) -> Node:
        left = self.sum()
        while token := self.take("command", "cup", "cap", "setminus") or (self.set_difference(left)):
            kind = {"cup": "union", "cap": "inter"}.get(token.value, "minus")
            left = (kind, left, self.sum())
        return left

    def set_difference(self, left: Node) -> Token | None:
        return self.take("sign", "-") if self.is_set(left) else None

    def is_set(self, left: Node) -> bool:
        """Whether what was read is a set, so that a minus behind it takes a set away."""
        braces = self.at("sign", "-") and self.peek() == Token("open", "\\{", self.peek().apart)
        return left[0] in ("domain", "builder") or (left[0] in ("set", "group") and braces)

    def sum(self) -> Node:
        plus_minus = self.take("command", "pm", "mp")
        left = self.product()
        if plus_minus:
            left = ("pm", ("num", 0, None), left, 1 if plus_minus.value == "pm" else -1)
        while True:
            if self.is_set(left) or self.ends_here():
                return left
            if self.at("sign", "+") and self.peek() == Token("sign", "/") and self.peek(2) == Token("sign", "-"):
                self.position += 3
                left = ("pm", left, self.product(), 1)
            elif token := self.take("sign", "+", "-"):
                right = self.product()
                left = ("add", left, right if token.value == "+" else ("neg", right))
            elif token := self.take("command", "pm", "mp"):
                left = ("pm", left, self.product(), 1 if token.value == "pm" else -1)
            else:
                return left

    def ends_here(self) -> bool:
        return self.next.kind in ("end", "close", "relation", "row")

    def product(self) -> Node:
        if self.take("sign", "-"):
            return ("neg", self.product())
        if self.at("sign", "+"):
            self.position += 1
            if self.at("sign", "/") and self.peek() == Token("sign", "-"):
                self.position += 2
                return ("pm", ("num", 0, None), self.product(), 1)
            return self.product()
        left = self.factors()
        return self.with_unit(left) if self.next.kind in ("text", "word", "letter", "command", "number") else left

    def factors(self) -> Node:
        left = self.power()
        while True:
            if self.measures(left):
                return left
            if self.take("sign", "*"):
                left = ("mul", left, self.signed_power())
            elif self.take("sign", "/"):
                left = ("div", left, self.signed_power())
            elif self.take("command", "bmod"):
                left = ("mod", left, self.signed_power())
            elif self.starts_factor():
                left = self.beside(left)
            else:
                return left

    def measures(self, left: Node) -> bool:
        """Whether a letter apart from a plain number is its unit: `5 m`, and nothing but the end behind it."""
        token = self.next
        if left[0] != "num" or not (
            token == Token("command", "Omega", token.apart)
            or (token.kind == "letter" and token.apart and token.value in ONE_LETTER)
        ):
            return False
        place = 1
        while self.peek(place).kind == "number" or self.peek(place).value in ("/", "^", *ONE_LETTER):
            if self.peek(place).kind == self.peek(place - 1).kind == "letter":
                return False
            place += 1 if self.peek(place).value != "^" else self.length_of_power(place)
        after = self.peek(place)
        return after.kind in ("end", "relation") or after.value in (",", ";", ")", "]", "\\}")

    def length_of_power(self, place: int) -> int:
        """How many words `^2`, `^{-1}` or `^-1` has."""
        length = 1
        braces = self.peek(place + length).value == "{"
        length += braces
        length += self.peek(place + length).value == "-"
        return length + 1 + (braces and self.peek(place + length + 1).value == "}")

    def with_unit(self, amount: Node) -> Node:
        """The amount with the unit or the noun behind it; another amount of that dimension may follow."""
        phrase: list[str] = []
        if self.next.kind in ("letter", "command") and not self.measures(amount):
            return amount
        while True:
            token = self.next
            if token.kind in ("text", "word") and token.value.strip(" ,").lower() in ("and", "or"):
                break
            if token.kind in ("text", "word") or (token.kind == "letter" and (phrase or self.measures(amount))):
                phrase.append(token.value)
            elif token.kind == "sign" and token.value == "/" and phrase:
                phrase.append("/")
            elif token.kind == "sign" and token.value == "*" and phrase and self.peek().kind == "text":
                pass
            elif token.value == "^" and phrase:
                self.position += 1
                power = self.exponent()
                sign = "-" if power[0] == "neg" else ""
                phrase[-1] += f"^{sign}{(power[1] if sign else power)[1]}"
                continue
            elif token.kind == "command" and token.value in (*CURRENCIES, "Omega"):
                phrase.append("Ω" if token.value == "Omega" else token.value)
            else:
                break
            self.position += 1
        if not phrase:
            return amount
        words = " ".join(" ".join(phrase).split())
        if words.lower() in ("percent", "per cent", "%"):
            return ("percent", amount)
        measured = ("unit", amount, words)
        if self.next.kind == "number":
            return ("add", measured, self.product())
        return measured

    def signed_power(self) -> Node:
        if self.take("sign", "-"):
            return ("neg", self.signed_power())
        return self.power()

    def starts_factor(self) -> bool:
        token = self.next
        if token.kind in ("number", "letter"):
            return True
        if token.kind == "sign" and token.value == "|":
            return not self.bars and not self.in_set
        if token.kind == "open":
            return token.value != "[" or not self.closes_reversed()
        return token.kind == "command" and token.value not in (
            "pm", "mp", "cup", "cap", "setminus", "pmod", "bmod", "over", "choose", "end", "dots", "cdots", "ldots",
        )  # fmt: skip

    def closes_reversed(self) -> bool:
        """Whether `[` ends an interval, as in `]1, 2[`."""
        after = self.peek()
        return after.kind in ("end", "close", "relation", "row") or after.value in (",", ";", "cup", "cap", "setminus")

    def beside(self, left: Node) -> Node:
        """A factor without a sign before it: a product, or the fraction of a mixed number."""
        before, token = self.tokens[self.position - 1], self.next
        whole = left[0] == "num" and left[2] is None and before.kind == "number" and left[1].denominator == 1
        if whole and token.kind == "number" and token.apart:
            if self.peek() == Token("sign", "/") and self.peek(2).kind == "number":
                top, bottom = token, self.peek(2)
                if top.number.denominator == bottom.number.denominator == 1 and 0 < top.number < bottom.number:
                    self.position += 3
                    return self.postfixed(("num", left[1] + top.number / bottom.number, None))
            raise Apart
        if (
            token.kind == "number"
            and before.value not in (")", "]", "!", "|")
            and not (before.kind == "command" and token.apart)
        ):
            raise Apart if before.kind == "number" else Unreadable("a figure after a letter")
        if whole and token == Token("command", "frac", token.apart):
            fraction = self.atom()
            if all(part[0] == "num" and part[1].denominator == 1 for part in fraction[1:]) and fraction[2][1] != 0:
                return self.postfixed(("num", left[1] + fraction[1][1] / fraction[2][1], None))
            return ("mul", left, self.raised(fraction))
        factor = self.power()
        return ("unit", left, factor[1]) if factor[0] == "words" else ("mul", left, factor)

    def power(self) -> Node:
        return self.raised(self.atom())

    def raised(self, base: Node) -> Node:
        base = self.postfixed(base)
        if self.take("sign", "^"):
            exponent = self.exponent()
            base = self.postfixed(("pow", base, exponent))
            if self.at("sign", "^"):
                raise Unreadable("a tower without braces")
        return base

    def exponent(self) -> Node:
        if self.take("sign", "-"):
            return ("neg", self.exponent())
        if self.at("open", "("):
            return self.atom()
        if number := self.take("number"):
            return (
                self.postfixed(("num", number.number, number.decimals))
                if self.at("sign", "!")
                else ("num", number.number, number.decimals)
            )
        exponent = self.argument()
        return self.postfixed(exponent) if self.at("sign", "!") else exponent

    def postfixed(self, node: Node) -> Node:
        while True:
            if self.take("sign", "!"):
                node = ("fact", node)
            elif self.take("sign", "%"):
                node = ("percent", node)
            elif self.take("sign", "°"):
                scale = self.take("letter", "C", "F", "K") or self.take("text", "C", "F", "K")
                node = ("unit", node, TEMPERATURES[scale.value]) if scale else ("degree", self.with_minutes(node))
            else:
                return node

    def with_minutes(self, degrees: Node) -> Node:
        """Degrees with the minutes and seconds behind them: `60°42'`."""
        for part, marks in ((60, 1), (3600, 2)):
            if self.at("number") and all(self.peek(ahead + 1).value == "'" for ahead in range(marks)):
                figure = self.take("number")
                self.position += marks
                degrees = ("add", degrees, ("num", figure.number / part, None))
        return degrees

    def argument(self) -> Node:
        """What a command applies to: a braced expression, or the next digit, letter or command."""
        if self.at("open", "{"):
            return self.atom()
        if self.at("number"):
            return self.first_digit()
        if self.at("letter") or self.at("command") or self.at("open", "("):
            return self.atom()
        raise Unreadable(f"no argument but {self.next.value!r}")

    def first_digit(self) -> Node:
        """One digit of a number, as LaTeX takes it for an argument: `\\frac12`, `x^23`."""
        token = self.need("number")
        if len(token.value) > 1 and token.value.isdigit():
            rest = token.value[1:]
            self.position -= 1
            self.tokens[self.position] = Token("number", rest, False, type(token.number)(int(rest)))
            return ("num", type(token.number)(int(token.value[0])), None)
        return ("num", token.number, token.decimals)
