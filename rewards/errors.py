"""The one error that rewards raise at a user."""


class RewardError(Exception):
    """A reward broke its contract, or its settings do not fit.

    The message names the file, the function, the row and the value, as far as each is known, and what to do.
    """
