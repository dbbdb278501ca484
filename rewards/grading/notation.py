"""One notation for what many hands write: Unicode signs, full-width characters, LaTeX spacing and text commands.

`tidy` gives plain words and figures, for comparing text; `formula` gives the LaTeX that `rewards.grading.formulas`
reads. Both are linear in the text and take any input.
"""

import re

from rewards.grading.repairs import repaired, without_ordinals

INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
TEXT_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|texttt|textup|mathrm|mathbf|mathit|mathsf|mathtt|mbox|hbox|operatorname"
    r"|boldsymbol|bm|rm|bf)\s*+(?:\*\s*+)?\{([^{}]*)\}"
)
SPACING = re.compile(r"(?<!\\)\\(?:left|right|displaystyle|,|;|!|:|\s|quad|qquad)|~")
SIZES = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|mathstrut)"
    r"(?![A-Za-z])\.?"
)
BLANKS = re.compile(r"\\(?:quad|qquad|enspace|thinspace|medspace|space|hspace\s*\{[^{}]*\})(?![A-Za-z])|\\[,;: >]|~")
DELIMITERS = re.compile(r"\$\$|\$|\\[()\[\]]")
SIGNS = {
    "−": "-", "–": "-", "－": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ",
    "⁄": "/", "／": "/", "＋": "+", "＝": "=", "＜": "<", "＞": ">", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ",
    "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ",
    "∅": r"\emptyset ", "∞": r"\infty ", "π": r"\pi ", "√": r"\sqrt ", "±": r"\pm ", "∓": r"\mp ", "∈": r"\in ",
    "∖": r"\setminus ", "→": r"\to ", "⇒": r"\to ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "℃": r"°\text{C}", "℉": r"°\text{F}", "（": "(", "）": ")", "［": "[",
    "］": "]", "｛": r"\{", "｝": r"\}", "，": ", ", "、": ", ", "；": "; ", "：": ":", "％": "%", "．": ".", "｜": "|",
    "或": r"\text{ or }", "和": r"\text{ and }", "且": r"\text{ and }", "′": "'", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "¥": r"\yuan ",
    "￥": r"\yuan ", "¢": r"\text{ cents}", "€": r"\euro ", "£": r"\sterling ", "₹": r"\rupee ",
    "∶": ":", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "∀": r"\forall ", "∃": r"\exists ",
    "Ω": r"\Omega ", "∠": r"\angle ", "△": r"\triangle ", "≡": r"\equiv ", "“": "", "”": "", "**": "^",
}  # fmt: skip
VULGAR = "½ 1 2 ⅓ 1 3 ⅔ 2 3 ¼ 1 4 ¾ 3 4 ⅕ 1 5 ⅖ 2 5 ⅗ 3 5 ⅘ 4 5 ⅙ 1 6 ⅚ 5 6 ⅛ 1 8 ⅜ 3 8 ⅝ 5 8 ⅞ 7 8"
GREEK = (
    "α alpha β beta γ gamma δ delta ε epsilon ζ zeta η eta θ theta ι iota κ kappa λ lambda μ mu ν nu ξ xi ρ rho "
    "σ sigma τ tau υ upsilon φ phi χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Φ Phi Ψ Psi"
)
SIGNS |= {sign: rf" \frac{{{top}}}{{{bottom}}}" for sign, top, bottom in zip(*[iter(VULGAR.split())] * 3, strict=True)}
SIGNS |= {letter: f"\\{name} " for letter, name in zip(*[iter(GREEK.split())] * 2, strict=True)}
SIGN = re.compile("|".join(map(re.escape, sorted(SIGNS, key=len, reverse=True))))
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
ROOT_SIGN = re.compile(r"([√∛∜])[ ]?([0-9]+(?:\.[0-9]+)?)")
"""A sign of a root before a number, all of which is under it."""
RAISED = re.compile(r"(?<=[^\s(\[{+\-])([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+)")
LOWERED = re.compile(r"(?<=[^\s(\[{+\-])([₀₁₂₃₄₅₆₇₈₉₊₋]+)")
NAMES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "geq": "ge", "leqslant": "le", "geqslant": "ge",
    "neq": "ne", "lt": "<", "gt": ">", "cdotp": "cdot", "ast": "cdot", "varnothing": "emptyset", "dbinom": "binom",
    "tbinom": "binom", "lvert": "|", "rvert": "|", "vert": "|", "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[",
    "rbrack": "]", "lparen": "(", "rparen": ")", "colon": ":", "mid": "|", "textdollar": "dollar", "approxeq": "approx",
    "simeq": "approx", "rightarrow": "to", "Rightarrow": "to", "longrightarrow": "to", "implies": "to", "iff": "to",
    "infin": "infty", "smallsetminus": "setminus", "backslash": "setminus", "bigcup": "cup", "bigcap": "cap",
    "degree": "°", "isin": "in", "reals": "mathbb{R}", "Reals": "mathbb{R}", "R": "mathbb{R}", "textdegree": "°",
    "prime": "'", "lor": "text{ or }", "vee": "text{ or }", "land": "text{ and }", "wedge": "text{ and }",
    "dot": "dot", "slash": "/", "lang": "langle", "rang": "rangle", "varphi": "phi", "vartheta": "theta",
    "varepsilon": "epsilon", "omicron": "o", "hbar": "hbar", "gets": "to", "arctg": "arctan", "tg": "tan",
    "cent": "text{ cents}", "oslash": "emptyset", "textcirc": "circ", "cupdot": "cup", "sqcup": "cup", "uplus": "cup",
    "ctg": "cot", "cosec": "csc", "sh": "sinh", "ch": "cosh", "asin": "arcsin", "acos": "arccos", "atan": "arctan",
}  # fmt: skip
COMMAND = re.compile(r"\\([A-Za-z]+)")
CHINESE_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
CHINESE_PLACES = {"十": 10, "百": 100, "千": 1000}


def tidy(text: str) -> str:
    """`text` without invisible edges, math delimiters, text wrappers, spacing commands and closing punctuation."""
    text = text.strip().strip(INVISIBLE).strip()
    text = text.replace("\\$", "\\dollar")
    text = re.sub(r"\$+|\\[()\[\]]", " ", text).replace("\\dollar", "")
    text = TEXT_COMMAND.sub(r" \1 ", text) if "\\" in text else text
    text = text.replace("\\%", "%").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("−", "-")
    text = SPACING.sub(lambda found: "" if found.group() in ("\\left", "\\right", "\\!") else " ", text)
    text = re.sub(r"\^\s*+(?:\{\s*+)?\\circ\s*+\}?|°|\\degree", " degrees ", text)
    return " ".join(text.split()).rstrip(" .,;:。，．；：")


def squeeze(text: str) -> str:
    """`text` without the blanks that mean nothing: one between two figures, or after a comma, keeps them apart."""
    return re.sub(r"(?<=[0-9.]) (?=[0-9.]|\\frac)|(?<=[0-9],) (?=[0-9])", "\u241f", text).replace(" ", "")


def formula(text: str, gold: bool = False) -> str:
    """`text` in the LaTeX that the reader of formulas knows. In a gold answer, digits of other scripts are digits."""
    text = without_ordinals(repaired(text.strip(" \r\n").strip(INVISIBLE).strip(" \r\n")))
    if gold:
        text = chinese_number(plain_digits(text))
    if not text.isascii():
        text = RAISED.sub(lambda found: "^{" + found[1].translate(SUPERSCRIPTS) + "}", text)
        text = LOWERED.sub(lambda found: "_{" + found[1].translate(SUBSCRIPTS) + "}", text)
        text = text.replace("\u00a0", " ").replace("\u202f", " ").replace("\u2009", " ")
    text = re.sub(r",\s*\\!\s*", ",", text)
    if "\\begin" not in text:  # escaped twice, as some data sets are
        text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)
    text = SIGN.sub(lambda found: SIGNS[found.group()], ROOT_SIGN.sub(r"\1{\2}", text))
    text = LABEL.sub(r"\\text{\1}:", text)
    if "\\" in text or "$" in text:
        text = text.replace("\\$", " \\dollar ").replace("\\%", "%").replace("\\!", "").replace("\\#", "#")
        text = text.replace("\\\\", "\ue000")  # the end of a row of a matrix
        text = SIZES.sub("", BLANKS.sub(" ", DELIMITERS.sub(" ", text)))
        text = TEXT_COMMAND.sub(plain_letter, text)
        text = COMMAND.sub(one_name, text)
        text = re.sub(r"\\(?=[|])", "", text).replace("\ue000", "\\\\")
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°", text)
    text = re.sub(r"\^\s*\{\s*('[\s']*)\}|\^\s*(')", lambda found: (found[1] or found[2]).replace(" ", ""), text)
    text = text.replace("{,}", ",").replace("\u00b0", "°")
    return " ".join(text.split()).rstrip(" .,;:。")


def plain_letter(found: re.Match[str]) -> str:
    """The words of a text command, or the letter itself where it is the constant e or i, or one in bold."""
    inside = found[1]
    command = found.group()
    if inside.strip(" ~") in ("min", "sec") and re.search(r"[0-9}]\s*$", found.string[: found.start()]):
        return "\\text{" + inside.strip(" ~") + "}"
    if inside.strip() in ("e", "i", "\\pi") and "text" not in command.split("{")[0]:
        return f" {inside.strip()} "
    if re.fullmatch(r"[\s0-9.+\-/^()A-Z]*", inside) and not re.fullmatch(r"\s*[A-Z]+\s*", inside):
        return f" {inside} " if inside.strip() else " "
    named = COMMAND_WORD if command.startswith(("\\operatorname", "\\mathrm")) else IN_TEXT
    if named.fullmatch(inside.strip()):
        return f"\\{inside.strip()} "
    return "\\text{" + inside + "}"


LABEL = re.compile(r"(?<![\\A-Za-z{])([A-Z][a-z]{2,20})\s*:(?!=)")
"""A word before a colon, which names what follows."""
IN_TEXT = re.compile(r"(?:arc)?(?:sin|cos|tan|cot|csc)h?|ln|lg|log")
"""Functions that a text command may hold; `min` and `sec` are units there."""
COMMAND_WORD = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|arctg|a?tg|ctg|ln|lg|log|exp|max|min|gcd|lcm|sqrt|mod|det|floor|ceil"
)


def one_name(found: re.Match[str]) -> str:
    """The one name that the reader knows of a command with several."""
    name = NAMES.get(found[1])
    if name is None:
        return found.group()
    return name if not name[0].isalpha() else f"\\{name} "


def plain_digits(text: str) -> str:
    """`text` with the decimal digits of any script in ASCII."""
    if text.isascii():
        return text
    return "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def chinese_number(text: str) -> str:
    """A number below ten thousand in Chinese characters as figures; any other text as it is."""
    if not text or len(text) > 9 or any(c not in CHINESE_DIGITS and c not in CHINESE_PLACES for c in text):
        return text
    total, digit = 0, None
    for character in text:
        if character in CHINESE_DIGITS:
            digit = CHINESE_DIGITS[character]
        else:
            total += (1 if digit is None else digit) * CHINESE_PLACES[character]
            digit = None
    return str(total + (digit or 0))
