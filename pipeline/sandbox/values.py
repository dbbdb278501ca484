"""Plain data as it crosses between two sandboxes, in JSON. Sent in after `inside`, compiled; `peer` encodes and decodes
what is inside a container.

An instance of a class derived from a plain type crosses as that type: nothing that the class redefines goes along.
"""


class ProgramEnded(Exception):
    """The program's process is gone, or speaks nonsense."""


def write_items(peer, items):
    return [peer.encode(item) for item in items]


def read_items(peer, items):
    return [peer.decode(item) for item in items]


BARE = (int, float, str, bytes, list, tuple, dict, set, frozenset)
WRITERS = {
    int: lambda peer, value: {"int": hex(int.__index__(value))} if type(value) is not bool else bool(value),
    float: lambda peer, value: {"float": float.hex(value)},
    str: lambda peer, value: str.__str__(value),
    bytes: lambda peer, value: {"bytes": bytes.hex(value)},
    bytearray: lambda peer, value: {"bytearray": value.hex()},
    complex: lambda peer, value: {"complex": [value.real.hex(), value.imag.hex()]},
    list: lambda peer, value: {"list": write_items(peer, list.__iter__(value))},
    tuple: lambda peer, value: {"tuple": write_items(peer, tuple.__iter__(value))},
    set: lambda peer, value: {"set": write_items(peer, set.__iter__(value))},
    frozenset: lambda peer, value: {"frozenset": write_items(peer, frozenset.__iter__(value))},
    range: lambda peer, value: {"range": write_items(peer, (value.start, value.stop, value.step))},
    dict: lambda peer, value: {"dict": [write_items(peer, pair) for pair in dict.items(value)]},
}
READERS = {
    "int": lambda peer, text: int(text, 16),
    "float": lambda peer, text: float.fromhex(text),
    "bytes": lambda peer, text: bytes.fromhex(text),
    "bytearray": lambda peer, text: bytearray.fromhex(text),
    "complex": lambda peer, parts: complex(*map(float.fromhex, parts)),
    "list": read_items,
    "tuple": lambda peer, items: tuple(read_items(peer, items)),
    "set": lambda peer, items: set(read_items(peer, items)),
    "frozenset": lambda peer, items: frozenset(read_items(peer, items)),
    "range": lambda peer, items: range(*read_items(peer, items)),
    "dict": lambda peer, pairs: dict(read_items(peer, pair) for pair in pairs),
}
LIBRARY = {
    "collections.deque": lambda value: (list(value), value.maxlen),
    "fractions.Fraction": lambda value: (value.numerator, value.denominator),
    "decimal.Decimal": lambda value: (str(value),),
    "datetime.timedelta": lambda value: (value.days, value.seconds, value.microseconds),
    "datetime.date": lambda value: (value.year, value.month, value.day),
    "datetime.time": lambda value: (value.hour, value.minute, value.second, value.microsecond),
    "datetime.datetime": lambda value: (
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond,
    ),
}  # fmt: skip


def library(name):
    """A class of the standard library that may cross; no other name is ever imported."""
    if name not in LIBRARY:
        raise ProgramEnded("the program sent something that is not a value")
    module, _, kind = name.partition(".")
    return getattr(__import__(module), kind)


def restore(value, changed):
    """Make a container that the program changed in place look as the program left it."""
    if changed is None or type(changed) is not type(value):
        return
    if isinstance(value, (list, bytearray)):
        value[:] = changed
    else:
        value.clear()
        value.update(changed)
