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


def test_chinese_counts_by_character():
    assert words("计算2+3。") == ("计", "算", "2", "+", "3", "。")
    held_out = HeldOut({"test": ["请你计算一下这个长长的算式"]})
    assert held_out.overlap("好的请你计算一下这个长长的算式吧")


def test_nothing_overlaps_with_nothing():
    assert not HeldOut({"test": []}).overlap("anything at all")
    assert not HeldOut({"test": ["", "  "]}).overlap("")
