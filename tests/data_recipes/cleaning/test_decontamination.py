import pytest

from data_recipes.cleaning.decontamination import HeldOut, words


def test_a_shared_run_of_ten_words_is_found_inside_longer_texts():
    held_out = HeldOut({"test": ["alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"]})
    assert held_out.overlap("they said BETA gamma delta epsilon zeta eta theta iota kappa lambda, again")


def test_punctuation_does_not_hide_a_shared_run():
    held_out = HeldOut({"test": ["alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"]})
    assert held_out.overlap("they said beta, gamma; delta (epsilon) zeta eta theta iota kappa lambda")


def test_marks_of_formulas_are_no_shared_words():
    held_out = HeldOut(
        {"test": [r"Write the value of $x$ as $\frac{m}{n}$, where $m$ and $n$ are prime to each other."]}
    )
    assert not held_out.overlap(
        r"Find $\left( $a$, $\frac{p}{q}$, $b$ \right)$ with $\{ ( [ ] ) \}$, \[ ; \], ( { } )."
    )


def test_numbers_that_a_long_sum_shares_count():
    terms = "1 + 2 - 3 + 4 - 5 + 6 - 7 + 8 - 9 + 10"
    assert HeldOut({"test": [f"{terms} - 11"]}).overlap(f"{terms} + 12 - 13")


def test_a_recipe_is_matched_whole_alone():
    asked = "Use each of the numbers {} once, with plus and minus and times, to get to the target."
    held_out = HeldOut({}, whole={"recipe": [asked.format("3 4 5")]})
    assert held_out.overlap(asked.format("3 4 5")) == "recipe"
    assert not held_out.overlap(asked.format("3 4 6"))


def test_nine_shared_words_are_not_enough():
    held_out = HeldOut({"test": ["one two three four five six seven eight nine ten eleven"]})
    assert not held_out.overlap("x one two three four five six seven eight nine y z")


def test_a_short_question_is_matched_whole_whatever_its_case_width_and_spacing():
    held_out = HeldOut({"test": ["What is 2+3?"]})
    assert held_out.overlap("what is ２ + 3 ?")
    assert not held_out.overlap("What is 2+4?")
    assert not held_out.overlap("What is 2+3? And why?")


@pytest.mark.parametrize(
    ("held_out", "training"),
    [
        ("What is the capital of France?", "what is the capital city of  FRANCE"),
        ("What is the capital of France?", "So, what is the capital of France?"),
        ("What is the capital of France?", "What is capital of France?"),
        ("What is the capital of France?", "Please answer in one word, and be quick: what is the capital of France?"),
        ("What is 12 \u00d7 3?", "What exactly is $12 \\times 3$?"),
        ("Add 1,000 and 2.", "Now add 1000 and 2"),
        ("\u4f60\u662f\u8c01\uff1f", "\u4f60\u662f\u8c01\u5440"),
    ],
)
def test_a_short_question_with_a_word_more_or_less_or_inside_another_text_is_found(held_out, training):
    assert HeldOut({"test": [held_out]}).overlap(training) == "test"


@pytest.mark.parametrize(
    ("held_out", "training"),
    [
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("What is the value of 2 + 3?", "What is the value of 2 + 3 + 4?"),
        ("What is the value of 2 + 3?", "What is the value of 3 + 2?"),
        ("What is the value of 2.5?", "What is the value of 25?"),
        ("What is 5!?", "What is 5?"),
        ("Who are you?", "They asked me who are you to say so."),
        ("2 + 3", "7 + 2 + 3"),
    ],
)
def test_another_short_question_is_not(held_out, training):
    assert not HeldOut({"test": [held_out]}).overlap(training)


def test_chinese_counts_by_character():
    assert words("计算2+3。") == ("计", "算", "2", "+", "3", "。")
    held_out = HeldOut({"test": ["请你计算一下这个长长的算式"]})
    assert held_out.overlap("好的请你计算一下这个长长的算式吧")


def test_nothing_overlaps_with_nothing():
    assert not HeldOut({"test": []}).overlap("anything at all")
    assert not HeldOut({"test": ["", "  "]}).overlap("")
