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


PLAIN = 1 << 53
"""Smaller whole numbers are numbers of JSON."""
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
    "collections.Counter": lambda value: (dict(value),),
    "collections.OrderedDict": lambda value: (list(dict.items(value)),),
    "collections.defaultdict": lambda value: (None, dict(value)),
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


TESTS = "tests"
"""The module in which a test defines its classes."""
MUTABLE = (list, dict, set, bytearray)


def containers(values):
    """Every container in the values that can be changed in place, in an order that both ends find alike."""
    found, waiting = [], list(reversed(values))
    while waiting:
        value = waiting.pop()
        if type(value) in MUTABLE:
            found.append(value)
        if type(value) in (list, tuple):
            waiting += reversed(value)
        elif type(value) is dict:
            waiting += reversed(value.values())
    return found


def contents(peer, given):
    """What each of the containers holds, encoded; where one of them stands in another, its number."""
    numbers = {id(each): number for number, each in enumerate(given)}

    def told(value):
        return {"given": numbers[id(value)]} if id(value) in numbers else peer.encode(value)

    return [
        [[peer.encode(key), told(value)] for key, value in container.items()]
        if type(container) is dict
        else [told(value) for value in container]
        for container in given
    ]


def restore(peer, given, changed):
    """Make containers that the program changed in place look as the program left them."""
    if changed is None:
        return

    def read(value):
        return given[value["given"]] if isinstance(value, dict) and "given" in value else peer.decode(value)

    for container, held in zip(given, changed, strict=True):
        if type(container) is dict:
            pairs = [(peer.decode(key), read(value)) for key, value in held]
            container.clear()
            container.update(pairs)
            continue
        values = [read(value) for value in held]
        if type(container) is set:
            container.clear()
            container.update(values)
        else:
            container[:] = values


def write_record(peer, value):
    """An object of a test's class by its attributes; where it comes again in a message, by its number."""
    if id(value) in peer.records:
        return {"again": peer.records[id(value)]}
    number = peer.records[id(value)] = len(peer.records)
    return {"record": [number, type(value).__name__, [write_items(peer, pair) for pair in vars(value).items()]]}


def read_record(peer, value):
    if "again" in value:
        return peer.records[value["again"]]
    number, name, attributes = value["record"]
    kind = peer.classes.get(name)
    if not isinstance(kind, type):
        kind = peer.classes.get(f"the test's {name}") or type(name, (), {})
        peer.classes[f"the test's {name}"] = kind
    made = peer.records[number] = object.__new__(kind)
    for pair in attributes:
        object.__setattr__(made, *read_items(peer, pair))
    return made


async def answer_of(peer, target):
    """What a coroutine of the program gives; it runs there."""
    return peer.ask("await", target, "")


def awaited(coroutine):
    import asyncio

    return asyncio.run(coroutine)
