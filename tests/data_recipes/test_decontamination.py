from data_recipes.decontamination import HeldOut, words


def test_a_shared_run_of_ten_words_is_found_inside_longer_texts():
    held_out = HeldOut({"test": ["alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"]})
    assert held_out.overlap("they said BETA gamma, delta epsilon zeta eta theta iota kappa lambda again") is None
    assert held_out.overlap("they said beta gamma delta epsilon zeta eta theta iota kappa lambda, again")


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
