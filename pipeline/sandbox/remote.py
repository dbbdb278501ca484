"""Calls between two sandboxes: the program in one, the assertions in the other. Sent in after `inside` and `values`,
compiled.

Only plain data crosses: numbers, text, bytes, containers, fractions, decimals, dates. An object of the program's own
stays where it is, and the assertions hold a `Remote` to it, whose attributes and methods ask the program. So a result
compares equal to a plain value only if it is that value; nothing that the program patches runs on the side that judges.

Operators ask the program between two of its objects, and for an object that the test itself has made of a class (by a
name with a capital first, as the test spells it): there the operators are what is tested. Any other object of the
program knows no operator with a value of the test's, which it would be handed and could answer for as it likes:
comparing, adding or taking away is a TypeError, as for any object in Python that defines none, and `in` looks through
the object here.

An object of a class that the test defines crosses as a copy of its attributes, in the program's class of that name
where it has one. What the program changes in place is changed here: lists, sets and dictionaries, nested ones and those
given by keyword.

Messages are lines of JSON. Left out: attributes of named tuples (they cross as tuples), subclassing the program's
classes in a test, a plain value on the left of an operator, and changes to objects of the test's own classes.
"""

# ruff: noqa: F821 (it runs in the namespace of `inside` and `values`, where nothing of ours can be imported)

import builtins
import contextlib
import json
import sys

MAX_LINE = 16 << 20


class Peer:
    """One end of the connection; the `trusting` one, the program's, lets the other do anything to its objects."""

    def __init__(self, descriptor, trusting):
        self.stream = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        self.pending = b""
        self.trusting = trusting
        self.shared = {}
        self.exceptions = {}
        self.classes = {}
        """Of the program, by name."""
        self.records = {}
        """Of one message: the number of each object of a test's class that is in it already, and back."""

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
        self.records = {}
        sent = [self.encode(value) for value in args]
        named = {key: self.encode(value) for key, value in (kwargs or {}).items()}
        given = containers([*args, *(kwargs or {}).values()])
        self.send({"do": operation, "target": target, "name": name, "args": sent, "kwargs": named})
        while True:
            message = self.receive()
            if "do" in message:
                self.serve(message)
                continue
            if "raised" in message:
                raise self.exception(
                    message["raised"], message.get("message", ""), stops=(operation, name) == ("builtin", "next")
                )
            restore(self, given, message.get("changed"))
            return self.decode(message["value"])

    def serve(self, message):
        """Do what the other end asks, and answer with the value, or with what was raised."""
        try:
            target, self.records = self.shared[message["target"]], {}
            args = [self.decode(value) for value in message["args"]]
            kwargs = {str(key): self.decode(value) for key, value in message["kwargs"].items()}
            given = containers([*args, *kwargs.values()])
            before = contents(self, given)
            value = self.encode(self.perform(message["do"], target, message["name"], args, kwargs))
            after = contents(self, given)
            answer = {"value": value, "changed": None if after == before else after}
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
        if operation == "await":
            return awaited(target)
        if operation == "get":
            return getattr(target, name)
        if operation == "set":
            return setattr(target, name, args[0])
        if operation == "is_instance":
            return isinstance(args[0], target)
        return getattr(builtins, name)(target, *args) if operation == "builtin" else OPERATORS[name](target, *args)

    def exception(self, kinds, message, stops=False):
        """The nearest exception class that this side knows: the program's own by name, else the built-in one.

        Where nothing is asked for its next value the end of an iteration would end the test's own loop: it becomes a
        RuntimeError, as in a generator.
        """
        for kind in kinds:
            known = self.exceptions.get(kind) or getattr(builtins, str(kind), None)
            if isinstance(known, type) and issubclass(known, (StopIteration, StopAsyncIteration)) and not stops:
                return RuntimeError(f"the program raised {kinds[0]}")
            if isinstance(known, type) and issubclass(known, Exception):
                return known(message)
        return ProgramEnded(f"the program raised {kinds[0]}: {message}")

    def encode(self, value):
        kind = type(value)
        if value is None or kind is bool or kind is str or (kind is int and abs(value) < PLAIN):
            return value
        if isinstance(value, Remote):
            return {"theirs": object.__getattribute__(value, "_target")}
        for base, parts in LIBRARY.items():
            if f"{kind.__module__}.{kind.__qualname__}" == base:
                return {"library": base, "parts": self.encode(parts(value))}
        for base, write in WRITERS.items():
            if kind is base or (issubclass(kind, base) and base in BARE):
                return write(self, value)
        if kind.__module__ == TESTS and not self.trusting and hasattr(value, "__dict__") and not callable(value):
            return write_record(self, value)
        if not self.trusting and not callable(value):
            raise TypeError(f"a test can give a program plain data and functions, not {kind.__name__}")
        self.shared[id(value)] = value
        if self.trusting and kind.__name__ == "coroutine":
            return {"awaits": id(value)}
        return {"mine": id(value), "class": isinstance(value, type)}

    def decode(self, value):
        if value is None or type(value) in (bool, str, int):
            return value
        if not isinstance(value, dict) or len(value) not in (1, 2):
            raise ProgramEnded("the program sent something that is not a value")
        if "mine" in value:
            return Remote(self, value["mine"])
        if "awaits" in value:
            return answer_of(self, value["awaits"])
        if "theirs" in value:
            return self.shared[value["theirs"]]
        if self.trusting and ("record" in value or "again" in value):
            return read_record(self, value)
        if "library" in value:
            return library(value["library"])(*self.decode(value["parts"]))
        ((kind, content),) = value.items()
        return READERS[kind](self, content)


class Remote:
    """An object that lives at the other end."""

    def __init__(self, peer, target, is_class=False, made_by_test=False):
        """`is_class`: calling it makes an object of a class that the test names; `made_by_test`: it is such an object,
        or what an operator of such an object gave."""
        for name, value in (("_peer", peer), ("_target", target), ("_is_class", is_class), ("_made", made_by_test)):
            object.__setattr__(self, name, value)

    def __call__(self, *args, **kwargs):
        result = self._peer.ask("call", self._target, "", args, kwargs)
        return made_by_test(result) if self._is_class else result

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

    def __contains__(self, item):
        if self._made or isinstance(item, Remote):
            return bool(self._peer.ask("operator", self._target, "in", [item]))
        return any(each is item or each == item for each in self)


def made_by_test(result):
    if isinstance(result, Remote):
        object.__setattr__(result, "_made", True)
    return result


OPERATORS = {
    "==": lambda a, b: bool(a == b), "<": lambda a, b: bool(a < b), "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b), ">=": lambda a, b: bool(a >= b), "+": lambda a, b: a + b, "-": lambda a, b: a - b,
    "*": lambda a, b: a * b, "/": lambda a, b: a / b, "//": lambda a, b: a // b, "%": lambda a, b: a % b,
    "**": lambda a, b: a**b, "@": lambda a, b: a @ b, "&": lambda a, b: a & b, "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b, "[]": lambda a, key: a[key], "[]=": lambda a, key, value: a.__setitem__(key, value),
    "del": lambda a, key: a.__delitem__(key), "in": lambda a, item: item in a, "neg": lambda a: -a,
    "enter": lambda a: a.__enter__(), "exit": lambda a: a.__exit__(None, None, None),
}  # fmt: skip
BINARY = {
    "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">=", "__add__": "+", "__sub__": "-", "__mul__": "*",
    "__truediv__": "/", "__floordiv__": "//", "__mod__": "%", "__pow__": "**", "__matmul__": "@", "__and__": "&",
    "__or__": "|", "__xor__": "^",
}  # fmt: skip
FORWARDED = {
    "__getitem__": "[]", "__setitem__": "[]=", "__delitem__": "del", "__neg__": "neg", "__enter__": "enter",
}  # fmt: skip
ASKED = {
    "__len__": "len", "__iter__": "iter", "__next__": "next", "__str__": "str", "__repr__": "repr", "__bool__": "bool",
    "__int__": "int", "__float__": "float", "__abs__": "abs",
}  # fmt: skip
RESULTS = ("neg", "abs")
"""Operators of one object whose result is as much the test's as the object."""


def forward():
    def binary(operator):
        def ask(self, other):
            if not (self._made or isinstance(other, Remote)):
                return NotImplemented
            result = self._peer.ask("operator", self._target, operator, [other])
            return made_by_test(result) if self._made else result

        return ask

    def unary(kind, operator):
        def ask(self, *args):
            result = self._peer.ask(kind, self._target, operator, args)
            return made_by_test(result) if self._made and operator in RESULTS else result

        return ask

    for method, operator in BINARY.items():
        setattr(Remote, method, binary(operator))
    for method, operator in FORWARDED.items():
        setattr(Remote, method, unary("operator", operator))
    for method, function in ASKED.items():
        setattr(Remote, method, unary("builtin", function))
    Remote.__exit__ = lambda self, *_: self._peer.ask("operator", self._target, "exit")


def text_or_nothing(error):
    try:
        return str(error)
    except BaseException:
        return ""


def serve_program(source, descriptor):
    """The program's end: run it, say what it defines, and answer until the other end goes."""
    peer = Peer(descriptor, trusting=True)
    main = type(sys)("solution")  # what it would do as a script, behind its main guard, is not what is tested
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = sys.modules["solution"] = main
    try:
        exec(compile(source, "solution.py", "exec"), main.__dict__)
    except BaseException as error:
        peer.send({"raised": [kind.__name__ for kind in type(error).__mro__], "message": text_or_nothing(error)[:2000]})
        return
    peer.classes = main.__dict__
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
            if isinstance(names[name], Remote) and name[:1].isupper():
                object.__setattr__(names[name], "_is_class", True)
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
            exec(compile(test, f"test {number}", "exec"), dict(names, __name__=TESTS))
    except BaseException as error:
        return f"test {number} of {len(tests)}: {type(error).__name__}: {text_or_nothing(error)[:500]}"
    return None


forward()
if CONFIG["role"] == "solution":
    import os

    os.close(CONFIG["control_fd"])
    with contextlib.suppress(ProgramEnded):  # the other end is done
        serve_program(CONFIG["source"], CONFIG["peer_fd"])
    os._exit(0)
else:
    import os

    failure = judge(CONFIG["tests"], CONFIG["entry_point"], CONFIG["peer_fd"])
    os.write(CONFIG["control_fd"], f"failed {failure}".encode(errors="replace") if failure else b"passed")
    os._exit(0)
