"""Language consistency: the share of target-language words in the chain of thought."""

import pytest

from rewards import RewardError, language_share, load

ENGLISH = "First we add the two numbers and then we check the sum."
CHINESE = "先把两个数加起来，然后检查一下结果。"


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        (ENGLISH, "en", 1.0),
        (ENGLISH, "zh", 0.0),
        (CHINESE, "zh", 1.0),
        (CHINESE, "en", 0.0),
        ("Nous avons donc deux nombres et la somme est paire.", "en", 0.0),
        ("Nous avons donc deux nombres et la somme est paire.", "fr", 1.0),
        ("Wir addieren die Zahlen und dann ist das Ergebnis klar.", "de", 1.0),
        ("Сначала сложим числа.", "ru", 1.0),
        ("まず二つの数を足します。", "zh", 0.0),
    ],
)
def test_text_in_one_language_is_wholly_that_language(text, language, share):
    assert language_share(text, language) == share


def test_a_mixed_text_lies_between_and_the_shares_add_up():
    mixed = f"{ENGLISH} {CHINESE}"
    english, chinese = language_share(mixed, "en"), language_share(mixed, "zh")
    assert 0 < english < 1 and 0 < chinese < 1
    assert english + chinese == pytest.approx(1)


@pytest.mark.parametrize(
    "neutral",
    [
        " 12 + 5 - 3 = 14 ",
        " $\\frac{1}{2} \\text{apples}$ ",
        " \\[ \\int_0^1 \\sin x \\, dx \\] ",
        "\n```python\nfor index in range(10):\n    print(index)\n```\n",
        " `print(total)` ",
        " x y n ",
        " sin(x) cos mod ",
        " foo_bar2 https://example.org/path ",
    ],
)
def test_formulas_and_code_count_for_no_language(neutral):
    assert language_share(neutral, "en") is None
    assert language_share(CHINESE + neutral + CHINESE, "zh") == 1.0


@pytest.mark.parametrize("text", ["", "12 + 5 = 17", "   ", "$x$"])
def test_no_words_is_none_and_not_zero(text):
    assert language_share(text, "en") is None


def test_more_words_of_the_language_never_lower_its_share():
    shares = [language_share(CHINESE + " " + " ".join(["number"] * count), "en") for count in range(20)]
    assert shares == sorted(shares)


def test_only_the_chain_of_thought_is_read():
    completion = f"<think> {CHINESE} </think> {ENGLISH}"
    assert language_share(completion, "zh") == 1.0
    reward = load("language")
    scores = reward(prompts=["q"] * 3, completions=[completion, ENGLISH, completion], language=["zh", "en", None])
    assert scores == [1.0, None, None]


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(RewardError, match="zh"):
        language_share(ENGLISH, "tlh")
    with pytest.raises(RewardError, match="column 'language'"):
        load("language")(prompts=["q"], completions=[ENGLISH])
