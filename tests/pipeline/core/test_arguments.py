"""The command line's options."""

from collections import defaultdict

import pytest

from pipeline.core.arguments import parser

TAKE_WORDS = [
    (["run", "all"], "--set", "set"),
    (["plan"], "--set", "set"),
    (["verify"], "--set", "set"),
    (["explain", "", "r1_zero"], "--set", "set"),
    (["check-reward", "accuracy"], "--args", "args"),
    (["new", "mine"], "--data", "data"),
    (["claims"], "--seeds", "seeds"),
    (["report"], "--with", "overlaid"),
]


@pytest.mark.parametrize(("command", "option", "read"), TAKE_WORDS)
def test_what_is_given_in_two_options_is_what_is_given_in_one(command, option, read):
    read_options = parser(defaultdict(lambda: print)).parse_args
    apart = read_options([*command, option, "a=1 b=2", option, "c=3"])
    assert getattr(apart, read) == "a=1 b=2 c=3" == getattr(read_options([*command, option, "a=1 b=2 c=3"]), read)
