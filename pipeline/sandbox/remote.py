"""Calls between two sandboxes: the program in one, the assertions in the other. Sent in after `inside`, compiled.

Only plain data crosses: numbers, text, bytes, containers, fractions, decimals, dates. An object of the program's own
stays where it is, and the assertions hold a `Remote` to it, whose attributes and operators ask the program. So a result
compares equal to a plain value only if it is that value; nothing that the program patches runs on the side that judges.

Messages are lines of JSON. Left out: attributes of named tuples (they cross as tuples), and subclassing the program's
classes in a test.
"""

import builtins
import contextlib
import json
import sys

MAX_LINE = 16 << 20


class ProgramEnded(Exception):
    """The program's process is gone, or speaks nonsense."""


class Peer:
    """One end of the connection; the `trusting` one, the program's, lets the other do anything to its objects."""

    def __init__(self, descriptor, trusting):
        self.stream = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        self.pending = b""
        self.trusting = trusting
        self.shared = {}
        self.exceptions = {}

    def send(self, message):
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[self.stream.write(line) :]

    def receive(self):
        while b"\n" not in self.pending:
            part = self.stream.read(1 << 16)
            if not part or len(self.pending) > MAX_LINE:
                raise ProgramEnded("the program ended, or sent too much, before it answered")
            self.pending += part
        line, _, self.pending = self.pending.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ProgramEnded("the program sent something that is not an answer")
        return message

    def ask(self, operation, target, name, args=(), kwargs=None):
        """Have the other end do something to its object; serve its own requests until the answer comes."""
        sent = [self.encode(value) for value in args]
        named = {key: self.encode(value) for key, value in (kwargs or {}).items()}
        self.send({"do": operation, "target": target, "name": name, "args": sent, "kwargs": named})
        while True:
            message = self.receive()
            if "do" in message:
                self.serve(message)
                continue
            if "raised" in message:
                raise self.exception(message["raised"], message.get("message", ""))
            for value, changed in zip(args, message.get("args", ()), strict=False):
                restore(value, self.decode(changed))
            return self.decode(message["value"])

    def serve(self, message):
        """Do what the other end asks, and answer with the value, or with what was raised."""
        try:
            target = self.shared[message["target"]]
            args = [self.decode(value) for value in message["args"]]
            kwargs = {str(key): self.decode(value) for key, value in message["kwargs"].items()}
            value = self.encode(self.perform(message["do"], target, message["name"], args, kwargs))
            changed = [self.encode(arg) if type(arg) in (list, dict, set, bytearray) else None for arg in args]
            answer = {"value": value, "args": changed}
        except ProgramEnded:
            raise
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"raised": kinds, "message": text_or_nothing(error)[:2000]}
        self.send(answer)

    def perform(self, operation, target, name, args, kwargs):
        if operation == "call":
            return target(*args, **kwargs)
        if not self.trusting:
            raise PermissionError("a program may only call what a test gives it")
        if operation == "get":
            return getattr(target, name)
        if operation == "set":
            return setattr(target, name, args[0])
        if operation == "is_instance":
            return isinstance(args[0], target)
        return getattr(builtins, name)(target, *args) if operation == "builtin" else OPERATORS[name](target, *args)

    def exception(self, kinds, message):
        """The nearest exception class that this side knows: the program's own by name, else the built-in one."""
        for kind in kinds:
            known = self.exceptions.get(kind) or getattr(builtins, str(kind), None)
            if isinstance(known, type) and issubclass(known, Exception):
                return known(message)
        return ProgramEnded(f"the program raised {kinds[0]}: {message}")

    def encode(self, value):
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if isinstance(value, Remote):
            return {"theirs": object.__getattribute__(value, "_target")}
        for base, write in WRITERS.items():
            if kind is base or (issubclass(kind, base) and base in BARE):
                return write(self, value)
        for base, parts in LIBRARY.items():
            if f"{kind.__module__}.{kind.__qualname__}" == base:
                return {"library": base, "parts": self.encode(parts(value))}
        if not self.trusting and not callable(value):
            raise TypeError(f"a test can give a program plain data and functions, not {kind.__name__}")
        self.shared[id(value)] = value
        return {"mine": id(value), "class": isinstance(value, type)}

    def decode(self, value):
        if value is None or type(value) in (bool, str):
            return value
        if not isinstance(value, dict) or len(value) not in (1, 2):
            raise ProgramEnded("the program sent something that is not a value")
        if "mine" in value:
            return Remote(self, value["mine"])
        if "theirs" in value:
            return self.shared[value["theirs"]]
        if "library" in value:
            return library(value["library"])(*self.decode(value["parts"]))
        ((kind, content),) = value.items()
        return READERS[kind](self, content)


class Remote:
    """An object that lives at the other end."""

    def __init__(self, peer, target):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_target", target)

    def __call__(self, *args, **kwargs):
        return self._peer.ask("call", self._target, "", args, kwargs)

    def __getattr__(self, name):
        return self._peer.ask("get", self._target, name)

    def __setattr__(self, name, value):
        self._peer.ask("set", self._target, name, [value])

    def __instancecheck__(self, value):
        return isinstance(value, Remote) and self._peer.ask("is_instance", self._target, "", [value]) is True

    def __eq__(self, other):
        return isinstance(other, Remote) and self._peer.ask("operator", self._target, "==", [other]) is True

    def __hash__(self):
        return hash(self._target)


OPERATORS = {
    "==": lambda a, b: bool(a == b), "<": lambda a, b: bool(a < b), "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b), ">=": lambda a, b: bool(a >= b), "+": lambda a, b: a + b, "-": lambda a, b: a - b,
    "*": lambda a, b: a * b, "/": lambda a, b: a / b, "//": lambda a, b: a // b, "%": lambda a, b: a % b,
    "**": lambda a, b: a**b, "@": lambda a, b: a @ b, "&": lambda a, b: a & b, "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b, "[]": lambda a, key: a[key], "[]=": lambda a, key, value: a.__setitem__(key, value),
    "del": lambda a, key: a.__delitem__(key), "in": lambda a, item: item in a, "neg": lambda a: -a,
    "enter": lambda a: a.__enter__(), "exit": lambda a: a.__exit__(None, None, None),
}  # fmt: skip
FORWARDED = {
    "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">=", "__add__": "+", "__sub__": "-", "__mul__": "*",
    "__truediv__": "/", "__floordiv__": "//", "__mod__": "%", "__pow__": "**", "__matmul__": "@", "__and__": "&",
    "__or__": "|", "__xor__": "^", "__getitem__": "[]", "__setitem__": "[]=", "__delitem__": "del",
    "__contains__": "in", "__neg__": "neg", "__enter__": "enter",
}  # fmt: skip
ASKED = {
    "__len__": "len", "__iter__": "iter", "__next__": "next", "__str__": "str", "__repr__": "repr", "__bool__": "bool",
    "__int__": "int", "__float__": "float", "__abs__": "abs",
}  # fmt: skip


def forward():
    for method, operator in FORWARDED.items():
        setattr(
            Remote, method, lambda self, *args, _name=operator: self._peer.ask("operator", self._target, _name, args)
        )
    for method, function in ASKED.items():
        setattr(Remote, method, lambda self, _name=function: self._peer.ask("builtin", self._target, _name))
    Remote.__exit__ = lambda self, *_: self._peer.ask("operator", self._target, "exit")


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


def text_or_nothing(error):
    try:
        return str(error)
    except BaseException:
        return ""


def serve_program(source, descriptor):
    """The program's end: run it, say what it defines, and answer until the other end goes."""
    peer = Peer(descriptor, trusting=True)
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    try:
        exec(compile(source, "solution.py", "exec"), main.__dict__)
    except BaseException as error:
        peer.send({"raised": [kind.__name__ for kind in type(error).__mro__], "message": text_or_nothing(error)[:2000]})
        return
    names, exceptions = {}, {}
    for name, value in main.__dict__.items():
        if isinstance(value, type) and issubclass(value, Exception):
            exceptions[name] = [kind.__name__ for kind in value.__mro__]
        elif isinstance(value, type(sys)):
            names[name] = {"module": value.__name__}
        elif not name.startswith("__"):
            try:
                names[name] = peer.encode(value)
            except BaseException:
                continue  # a value that cannot cross is only missed if a test asks for it
    peer.send({"names": names, "exceptions": exceptions})
    while True:
        peer.serve(peer.receive())


def namespace_of(peer, greeting, entry_point):
    """What the assertions see of the program: its names, but for those that would hide a built-in or a library."""
    if "raised" in greeting:
        raise ProgramEnded(f"the program raised {greeting['raised'][0]}: {greeting.get('message', '')}")
    for name, kinds in greeting["exceptions"].items():
        if name in builtins.__dict__:
            continue
        base = next(known for known in map(builtins.__dict__.get, kinds[1:]) if isinstance(known, type))
        peer.exceptions[name] = type(str(name), (base,), {})
    names = dict(peer.exceptions)
    for name, value in greeting["names"].items():
        if isinstance(value, dict) and "module" in value:
            if value["module"] in sys.stdlib_module_names:
                names[name] = __import__(value["module"], fromlist=["*"])
        elif name == entry_point or (name not in builtins.__dict__ and name not in sys.stdlib_module_names):
            names[name] = peer.decode(value)
    if entry_point in names:
        names["candidate"] = names[entry_point]
    return names


def judge(tests, entry_point, descriptor):
    """The judging end: run each test in its own copy of the names. None if all pass, else what went wrong."""
    peer = Peer(descriptor, trusting=False)
    number = 0
    try:
        names = namespace_of(peer, peer.receive(), entry_point)
        for number, test in enumerate(tests, 1):
            exec(compile(test, f"test {number}", "exec"), dict(names, __name__="tests"))
    except BaseException as error:
        return f"test {number} of {len(tests)}: {type(error).__name__}: {text_or_nothing(error)[:500]}"
    return None


forward()
if CONFIG["role"] == "solution":  # noqa: F821
    import os

    os.close(CONFIG["control_fd"])  # noqa: F821
    with contextlib.suppress(ProgramEnded):  # the other end is done
        serve_program(CONFIG["source"], CONFIG["peer_fd"])  # noqa: F821
    os._exit(0)
else:
    import os

    failure = judge(CONFIG["tests"], CONFIG["entry_point"], CONFIG["peer_fd"])  # noqa: F821
    os.write(CONFIG["control_fd"], f"failed {failure}".encode(errors="replace") if failure else b"passed")  # noqa: F821
    os._exit(0)
