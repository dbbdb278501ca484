"""Comparing simple expressions by value: it agrees with algebra, or leaves the question to it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import Verdict
from rewards.grading.arithmetic import compare_values
from rewards.grading.mathematics import compare

LEAVES = st.one_of(st.integers(1, 30).map(str), st.sampled_from(["x", "y", "\\pi"]))


def grown(inner):
    """Expressions one level larger."""
    return st.one_of(
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}+{pair[1]}"),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}-({pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) \\cdot ({pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"\\frac{{{pair[0]}}}{{{pair[1]}}}"),
        inner.map(lambda one: f"\\sqrt{{{one}}}"),
        inner.map(lambda one: f"({one})^2"),
    )


EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=4)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_it_agrees_with_algebra_wherever_it_decides(gold, answer):
    verdict = compare_values(gold, answer)
    assert verdict is None or verdict == compare({"gold": gold, "answer": answer})


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, st.integers(2, 9))
def test_a_rewritten_expression_is_never_called_wrong(gold, factor):
    for rewritten in (f"({gold})", f"{gold}+{factor}-{factor}", f"\\frac{{{factor}({gold})}}{{{factor}}}"):
        assert compare_values(gold, rewritten) is not Verdict.WRONG
        assert compare_values(gold, f"{rewritten}+1") is not Verdict.CORRECT


@pytest.mark.parametrize(
    "text",
    ["", "2 3", "3\\frac{1}{2}", "f(x)", "sqrt(2)", "no", "e", "3+4i", "X", "x=1", "1,2", "(1", "1)", "2^3^4",
     "\\sin x", "1/0", "\\sqrt{-1}", "10^{400}", "(" * 200 + "1" + ")" * 200, "10^{20}+1-10^{20}", "--1",
     "\\frac{1}", "x^", "١"],
)  # fmt: skip
def test_what_it_does_not_surely_understand_it_leaves_to_algebra(text):
    assert compare_values(text, "7\\sqrt{2}") is None
    assert compare_values("7\\sqrt{2}", text) is None
