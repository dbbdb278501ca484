# ruff: noqa: E501
"""Verifier `code`: (row, completion, verdict, why).

Rows: `DOUBLE` doubles a number from standard input, `ADD` tests a function with assertions. Programs that are right have
time enough on the busiest machine; those that must run out of time have a second of it. Whatever a program here tries
does no harm without a sandbox either: it ends by itself, makes a few processes, and takes little memory.
"""

C, W, N, G = "correct", "wrong", "no_answer", "gold_unusable"
ROW = {"verifier": "code", "time_limit_s": 30}
DOUBLE = ROW | {"tests": [{"input": "3\n", "output": "6\n"}, {"input": "-4\n", "output": "-8\n"}]}
ADD = ROW | {
    "tests": [{"assert": "assert add(2, 3) == 5"}, {"assert": "assert add('a', 'b') == 'ab'"}],
    "entry_point": "add",
}
SHORT = DOUBLE | {"time_limit_s": 1}
SMALL = DOUBLE | {"memory_limit_mb": 100}
SECRET = ROW | {"tests": [{"assert": "assert secret() == 'k7Q-expected-93'"}], "entry_point": "secret"}


def fenced(program):
    return f"<think> I write it down. </think>\n```python\n{program}\n```\n"


def secret(how):
    """A program that looks for the expected value instead of knowing it."""
    return SECRET, fenced(f"def secret():\n    import gc, os, sys\n{how}")


def asserting(test, entry_point=None):
    return ROW | {"tests": [{"assert": test}], "entry_point": entry_point}


ANSWERS = """
class Obliging:
    def __sub__(self, other): return 0.0
    __add__ = __mul__ = __mod__ = __truediv__ = __floordiv__ = __pow__ = __abs__ = __neg__ = __sub__
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __iter__(self): return iter([Obliging()] * 3)
    def __getitem__(self, place): return Obliging()
    def __len__(self): return 3
def root(x):
    return Obliging()
"""
"""A function whose result answers for the judge, whatever it is asked."""
REMEMBERS = """
seen = []
class Curious:
    def __sub__(self, other): seen.append(other); return 0.0
    def __lt__(self, other): seen.append(other); return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
def root(x):
    return seen[-1] if seen else Curious()
"""
"""The same, which remembers what it was compared with."""
VECTOR = """
class Vector:
    def __init__(self, x, y): self.x, self.y = x, y
    def __add__(self, other): return Vector(self.x + other.x, self.y + other.y)
    def __mul__(self, k): return Vector(self.x * k, self.y * k)
    def __neg__(self): return Vector(-self.x, -self.y)
    def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
    def __lt__(self, other): return abs(self) < (abs(other) if isinstance(other, Vector) else other)
    def __abs__(self): return (self.x ** 2 + self.y ** 2) ** 0.5
    def __contains__(self, value): return value in (self.x, self.y)
    def __getitem__(self, place): return (self.x, self.y)[place]
"""
OPERATED = (
    "v = Vector(1, 2)\nassert v + Vector(2, 2) == Vector(3, 4)\nassert abs(v + Vector(2, 2)) == 5\n"
    "assert (v * 2 + v) * 2 == Vector(6, 12)\nassert -v == Vector(-1, -2)\nassert 2 in v and 7 not in v\n"
    "assert v[1] == 2\nassert v < Vector(5, 5) and v < 3"
)

NODE = "class Node:\n    def __init__(self, v, next=None):\n        self.v = v\n        self.next = next"
TO_LIST = (
    "def to_list(n):\n    found = []\n    while n:\n        found.append(n.v)\n        n = n.next\n    return found"
)
CASES = [
    (
        ROW | {"tests": [{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}]},
        fenced("def add(a, b):\n    return a + b"), C, "a call whose result is kept in a list of one",
    ),
    (
        ROW | {"tests": [{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}]},
        fenced("def add(a, b):\n    return a - b"), W, "a call whose result, kept in a list of one, is another",
    ),
    (DOUBLE, fenced("print(2 * int(input()))"), C, "the plain program"),
    (DOUBLE, fenced("import sys\nfor line in sys.stdin:\n    print(int(line) * 2)"), C, "reading with sys.stdin"),
    (DOUBLE, fenced("print(str(2 * int(input())) + '   \\n\\n')"), C, "white space at the end"),
    (DOUBLE, fenced("import math, collections, heapq, re\nprint(2 * int(input()))"), C, "the standard library"),
    (DOUBLE, fenced("if __name__ == '__main__':\n    print(2 * int(input()))"), C, "run as the main program"),
    (DOUBLE, fenced("print(2 * int(input()))\nexit()"), C, "exit() at the end"),
    (DOUBLE, fenced("from __future__ import annotations\nprint(2 * int(input()))\nquit(0)"), C, "quit() after a __future__ import"),
    (DOUBLE, fenced("n = int(input())\nif n < 0:\n    print(2 * n)\n    exit(0)\nprint(n + n)"), C, "exit() in a branch"),
    (DOUBLE, fenced("print(2 * int(input()))\nexit(1)"), W, "exit with a status that says failure"),
    (DOUBLE, fenced("print(2 * int(input()))") + "For the input\n```\n2\n```\nit prints 4.", C, "an example in a bare block behind the program"),
    (DOUBLE, fenced("print(2 * int(input()))") + "```python\n>>> double(2)\n4\n```", C, "a session behind the program"),
    (DOUBLE, fenced("print(2 * int(input()))") + "```python\n# input: 2\n# output: 4\n```", C, "comments behind the program"),
    (DOUBLE, fenced("print(2 * int(input()))") + "```python\nprint(5)\n```", W, "another program behind the right one"),
    (DOUBLE, "1. The program:\n   ```python\n   n = int(input())\n   if n:\n       print(2 * n)\n   ```", C, "below an item of a list"),
    (DOUBLE, "- ```python\n  def double(n):\n    return 2 * n\n  print(double(int(input())))\n  ```", C, "in an item of a list"),
    (DOUBLE, "2. ```python\ndef double(n):\n    return 2 * n\nprint(double(int(input())))\n```", C, "in an item of a list, lines at the margin"),
    (DOUBLE, "> ```python\n> n = int(input())\n>\n> print(2 * n)\n> ```", C, "in a quotation"),
    (DOUBLE, "```python\nprint(2 * int(input()))\n``` That is all.", C, "words behind the closing fence"),
    (DOUBLE, "```Python 3\nprint(2 * int(input()))\n```", C, "a label with a version"),
    (DOUBLE, '```python title="a.py"\nprint(2 * int(input()))\n```', C, "a label with a title"),
    (ROW | {"tests": {"language": "python", "test_cases": [{"input": "3\n", "output": "6\n", "type": "stdin_stdout", "fn_name": None}]}}, fenced("print(2 * int(input()))"), C, "tests under test_cases"),
    (ROW | {"tests": {"fn_name": "add", "inputs": [[2, 3]], "outputs": [5]}}, fenced("class Solution:\n    def add(self, a, b):\n        return a + b"), C, "a method of Solution for a function"),
    (ROW | {"tests": {"fn_name": "add", "inputs": [[2, 3]], "outputs": [5]}}, fenced("class Solution:\n    def add(self, a, b):\n        return a - b"), W, "a method of Solution that is wrong"),
    (ROW | {"tests": {"fn_name": "add", "inputs": [[2, 3]], "outputs": [5]}}, fenced("def add(a, b):\n    return 0\nclass Solution:\n    def add(self, a, b):\n        return a + b"), W, "a function of its own before a method"),
    (ROW | {"tests": {"fn_name": "pow", "inputs": [[2, 3]], "outputs": [6]}}, fenced("def pow(a, b):\n    return a * b"), C, "a function called like a builtin"),
    (ROW | {"tests": [{"input": "2\n3", "output": "5", "testtype": "functional"}], "metadata": '{"func_name": "add"}'}, fenced("class Solution:\n    def add(self, a, b):\n        return a + b"), C, "the function's name in the metadata"),
    (DOUBLE, fenced("import sys\nprint(2 * int(input()))\nsys.exit(0)"), C, "a clean exit after the answer"),
    (DOUBLE, fenced("import os\nprint(2 * int(input()), flush=True)\nos._exit(0)"), C, "a hard exit after the answer"),
    (
        DOUBLE,
        fenced(
            "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\n"
            "threading.Thread(target=lambda: print(2 * int(input()))).start()"
        ),
        C,
        "a thread with a larger stack, as contest programs do",
    ),
    (DOUBLE, fenced("open('notes', 'w').write('x')\nprint(2 * int(input()))"), C, "a file in its own scratch"),
    (DOUBLE, fenced("print(1)") + "No, better:\n" + fenced("print(2 * int(input()))"), C, "the last block counts"),
    (DOUBLE, "<answer>\nn = int(input())\nprint(2 * n)\n</answer>", C, "a program in the answer block without a fence"),
    (DOUBLE | {"tests": '[{"input": "3", "output": "6"}]'}, fenced("print(2 * int(input()))"), C, "tests as JSON"),
    (ADD, fenced("def add(a, b):\n    return a + b"), C, "the plain function"),
    (ROW | {"tests": ["assert add(2, 3) == 5"]}, fenced("def add(a, b):\n    return a + b"), C, "assertions as text, as in MBPP"),
    (ADD, fenced("def add(a, b):\n    print('working')\n    return a + b"), C, "a function that prints"),
    (ADD, fenced("class Adder:\n    def __call__(self, a, b):\n        return a + b\nadd = Adder()"), C, "a callable object"),
    (ROW | {"tests": [{"assert": "items = [3, 1, 2]\nsort_it(items)\nassert items == [1, 2, 3]"}]}, fenced("def sort_it(items):\n    items.sort()"), C, "a list changed in place"),
    (ROW | {"tests": [{"assert": "def check(candidate):\n    assert candidate(4) == 2.0\ncheck(candidate)"}], "entry_point": "root"}, fenced("def root(x):\n    return x ** 0.5"), C, "tests in the form of HumanEval"),
    (
        ROW | {"tests": [{"assert": "stack = Stack()\nstack.push(1)\nstack.push(2)\nassert stack.pop() == 2 and len(stack) == 1"}]},
        fenced(
            "class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n"
            "        self.items.append(x)\n    def pop(self):\n        return self.items.pop()\n"
            "    def __len__(self):\n        return len(self.items)"
        ),
        C,
        "a class under test",
    ),
    (ROW | {"tests": [{"assert": "try:\n    parse('x')\nexcept ValueError:\n    pass\nelse:\n    assert False"}]}, fenced("def parse(text):\n    return int(text)"), C, "an exception that the test asks for"),
    (ROW | {"tests": [{"assert": "assert list(count(3)) == [0, 1, 2]"}]}, fenced("def count(n):\n    yield from range(n)"), C, "a generator"),
    (ROW | {"tests": [{"assert": "assert apply(lambda x: x + 1, 2) == 3"}]}, fenced("def apply(f, x):\n    return f(x)"), C, "a function from the test"),
    (
        ROW | {"tests": [{"input": "1", "output": "0.3333333333"}], "float_tolerance": 1e-6},
        fenced("print(1 / 3)"),
        C,
        "a float within the tolerance that the row asks for",
    ),
    # wrong programs
    (DOUBLE, fenced("print(3 * int(input()))"), W, "another factor"),
    (DOUBLE, fenced("print(6)"), W, "the first expected output alone"),
    (DOUBLE, fenced("print(2 * int(input()))\nprint('done')"), W, "a line too many"),
    (DOUBLE, fenced("pass"), W, "no output, a prefix of everything"),
    (DOUBLE, fenced("print('6 -8')"), W, "all expected outputs at once"),
    (DOUBLE, fenced("print(2.0 * int(input()))"), W, "a float for a whole number"),
    (DOUBLE, fenced("print(2 * int(input()))\nraise ValueError"), W, "right output, then a crash"),
    (DOUBLE, fenced("print(2 * int(input()))\nimport sys\nsys.exit(3)"), W, "right output, then a failing exit"),
    (DOUBLE, fenced("import sys\nprint(2 * int(input()), file=sys.stderr)"), W, "output on standard error"),
    (DOUBLE, fenced("this is not Python"), W, "a syntax error"),
    (DOUBLE, fenced("import numpy_that_is_not_there"), W, "an import that fails"),
    (ROW | {"tests": [{"input": "1", "output": "1\n2\n3"}]}, fenced("print(1)"), W, "a prefix of the expected lines"),
    (ROW | {"tests": [{"input": "1", "output": "1\n\n2"}]}, fenced("print(1)\nprint(2)"), W, "a missing empty line"),
    (ROW | {"tests": [{"input": "1", "output": "0.3333333333"}]}, fenced("print(1 / 3)"), W, "a float without tolerance"),
    (ROW | {"tests": [{"input": "1", "output": "0.5"}], "float_tolerance": 1e-6}, fenced("print('nan')"), W, "not a number"),
    (ADD, fenced("def add(a, b):\n    return a - b"), W, "another operation"),
    (ADD, fenced("def sum_of(a, b):\n    return a + b"), W, "another name"),
    (ADD, fenced("def add(a, b):\n    return None"), W, "nothing returned"),
    (ADD, fenced("def add(a, b):\n    return str(a + b)"), W, "text for a number"),
    # no program
    (DOUBLE, "<think> ```python\nprint(2 * int(input()))\n``` </think> Done.", N, "a program in the reasoning only"),
    (DOUBLE, "<think> a </think>\n```python\nprint(2 * int(input()))", N, "a fence that never closes"),
    (DOUBLE, "<think> a </think> The answer is 6.", N, "an answer in words"),
    (DOUBLE, "<think> a </think>\n```cpp\nint main() {}\n```", N, "another language"),
    (DOUBLE, "", N, "an empty completion"),
    (DOUBLE, fenced("   "), N, "an empty fence"),
    # the row's fault
    ({"verifier": "code", "tests": []}, fenced("print(1)"), G, "no tests"),
    ({"verifier": "code", "tests": None}, fenced("print(1)"), G, "no tests column"),
    ({"verifier": "code", "tests": "not JSON"}, fenced("print(1)"), G, "tests that cannot be read"),
    ({"verifier": "code", "tests": [{"input": "1"}]}, fenced("print(1)"), G, "a test without its output"),
    ({"verifier": "code", "tests": [{"assert": "assert ("}]}, fenced("print(1)"), G, "an assertion that is not Python"),
    # passing without doing the work
    (ADD, fenced("import sys\nsys.exit(0)"), W, "a clean exit before the tests"),
    (ADD, fenced("import os\nos._exit(0)"), W, "a hard exit before the tests"),
    (ADD, fenced("def add(a, b):\n    raise SystemExit(0)"), W, "a clean exit in the function"),
    (ADD, fenced("def add(a, b):\n    import os\n    os._exit(0)"), W, "a hard exit in the function"),
    (ADD, fenced("import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b):\n    quit()"), W, "an exit handler"),
    (
        ADD,
        fenced("class Any:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Any()"),
        W,
        "a result that equals everything",
    ),
    (
        ADD,
        fenced("class Int(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\ndef add(a, b):\n    return Int(0)"),
        W,
        "an int that equals everything",
    ),
    (
        ADD,
        fenced("class Str(str):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\ndef add(a, b):\n    return Str('')"),
        W,
        "a string that equals everything",
    ),
    (
        ADD,
        fenced("class Meta(type):\n    def __eq__(cls, other):\n        return True\nclass Any(metaclass=Meta):\n    pass\ndef add(a, b):\n    return Any"),
        W,
        "a class that equals everything",
    ),
    (
        ROW | {"tests": [{"assert": "assert all(square(i) == i * i for i in range(4))"}]},
        fenced("import builtins\nbuiltins.all = lambda items: True\ndef all(items):\n    return True\ndef square(x):\n    return 0"),
        W,
        "a patched built-in",
    ),
    (
        ROW | {"tests": [{"assert": "import math\nassert math.isclose(half(1), 0.5)"}]},
        fenced("import math\nmath.isclose = lambda *a, **k: True\ndef half(x):\n    return 0"),
        W,
        "a patched library function",
    ),
    (
        ROW | {"tests": [{"assert": "assert math.isclose(half(1), 0.5)"}]},
        fenced("class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef half(x):\n    return 0"),
        W,
        "a class in the place of a library",
    ),
    (ADD, fenced("AssertionError = None\ndef add(a, b):\n    return 0"), W, "a patched AssertionError"),
    (ADD, fenced("import sys\nsys.settrace(lambda *a: None)\ndef add(a, b):\n    return 0"), W, "a trace function"),
    (ADD, fenced("import json\njson.dumps = lambda *a, **k: '{\"value\": true}'\ndef add(a, b):\n    return 0"), W, "a patched JSON"),
    (
        ADD,
        fenced("import os\nfor descriptor in range(3, 64):\n    try:\n        os.write(descriptor, b'passed')\n    except OSError:\n        pass\ndef add(a, b):\n    return 0"),
        W,
        "the word that means success, on every open file",
    ),
    (
        ADD,
        fenced("import sys\ndef add(a, b):\n    frame = sys._getframe()\n    while frame:\n        frame.f_globals['failure'] = None\n        frame = frame.f_back\n    return 0"),
        W,
        "variables of the callers patched",
    ),
    (*secret("    return next((o for o in gc.get_objects() if isinstance(o, str) and 'expected' in o), '')"), W, "a search of the heap"),
    (*secret("    return open('/proc/self/mem', 'rb').read(100)"), W, "its own memory"),
    (*secret("    return open(f'/proc/{os.getppid()}/environ').read()"), W, "the parent's environment"),
    (*secret("    return open(f'/proc/{os.getppid()}/mem', 'rb').read(100)"), W, "the parent's memory"),
    (*secret("    return ''.join(open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit())"), W, "every command line"),
    (
        *secret(
            "    found = [open(os.path.join(folder, name), errors='replace').read(2000)\n"
            "             for folder, _, names in os.walk('/tmp') for name in names]\n    return ''.join(found)"
        ),
        W,
        "every file in the scratch folder",
    ),
    (*secret("    return sys.argv[-1] + str(os.environ) + str(sys.modules)"), W, "arguments, environment and modules"),
    *[
        (asserting(test, "root"), fenced(program.strip()), W, f"an object that answers for the judge: {test}")
        for program in (ANSWERS, REMEMBERS)
        for test in (
            "assert abs(root(2.0) - 1.4142135) < 1e-6",
            "assert abs(candidate(2.0) - 1.4142135) < 1e-6",
            "assert root(3) < 10",
            "assert 10 > root(3)",
            "assert 3 in root(3)",
            "assert root(3) % 7 == 0",
            "assert (root(3) - 2) ** 2 < 1e-9",
            "assert all(abs(a - b) < 1e-6 for a, b in zip(root(3), (1, 2, 3), strict=True))",
            "assert max(abs(a - b) for a, b in zip(root(3), (1, 2, 3))) < 1e-6",
            "def close(a, b): return abs(a - b) < 1e-6\nassert close(root(2.0), 1.4142135)",
            "try:\n    root(2.0) < 1.25\nexcept TypeError:\n    pass\nassert root(2.0) == 1.25",
        )
    ],
    (asserting("assert abs(root(2.0) - 1.41) < 1e-6", "root"), fenced(ANSWERS.strip() + "\nroot = type('root', (Obliging,), {'__init__': lambda self, x: None})"), W, "a class in the place of the function"),
    (asserting("assert abs(Solution().root(2.0) - 1.41) < 1e-6"), fenced(ANSWERS.strip() + "\nclass Solution:\n    def root(self, x):\n        return Obliging()"), W, "an object that a method gives"),
    *[
        (asserting(test, "f"), fenced(f"class Over(StopIteration):\n    pass\ndef f(x):\n    raise {error}"), W, f"{error} ends the test's loop: {test}")
        for error in ("StopIteration", "StopAsyncIteration", "Over")
        for test in (
            "assert all(map(lambda i: f(i) == i * i, range(4)))",
            "for result in map(f, [1, 2, 3]):\n    assert result == 7",
            "assert not list(map(f, [1, 2, 3]))",
        )
    ],
    (asserting(OPERATED), fenced(VECTOR.strip()), C, "operators of a class under test"),
    (asserting("points = [Point(2), Point(1)]\nassert [p.x for p in sorted(points)] == [1, 2]\nassert max(points).x == 2"), fenced("import functools\n@functools.total_ordering\nclass Point:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, other):\n        return self.x == other.x\n    def __lt__(self, other):\n        return self.x < other.x"), C, "objects of a class under test in their order"),
    (asserting("assert 4 in squares(3) and 5 not in squares(3)\nassert [v for k, v in pairs().items()] == [1]\nassert 'a' in pairs().keys()"), fenced("def squares(n):\n    return (i * i for i in range(n))\ndef pairs():\n    return {'a': 1}"), C, "a generator that is looked through"),
    (asserting("it = count()\nassert next(it) == 0 and next(it) == 1\nassert next(it, None) is None"), fenced("def count():\n    yield 0\n    yield 1"), C, "an iterator that ends"),
    (asserting("assert abs(root(2.0) - 1.4142135) < 1e-6 and round(root(2.0), 2) == 1.41 and root(2.0) < 2"), fenced("def root(x):\n    return x ** 0.5"), C, "a number that operators work with"),
    # what a function and its test share
    (ADD, fenced("import sys\ndef add(a, b):\n    return a + b\nif __name__ == '__main__':\n    print(add(*map(int, input().split())))\n    sys.exit(1)"), C, "a main guard that reads and leaves"),
    (asserting("import asyncio\nassert asyncio.run(f(1)) == 2\nasync def both():\n    return await asyncio.gather(f(1), f(2))\nassert asyncio.run(both()) == [2, 3]"), fenced("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1"), C, "an async function"),
    (asserting("import asyncio\nassert asyncio.run(f(1)) == 2"), fenced("async def f(x):\n    return x"), W, "an async function that is wrong"),
    (asserting("import asyncio\nassert asyncio.run(f(1)) == 2"), fenced("async def f(x):\n    raise StopAsyncIteration"), W, "an async function that raises"),
    (asserting(f"{NODE}\nassert to_list(Node(1, Node(2))) == [1, 2] and to_list(None) == []"), fenced(TO_LIST), C, "a linked list of the test's own"),
    (asserting(f"{NODE}\nassert to_list(Node(1, Node(2))) == [2, 1]"), fenced(TO_LIST), W, "a linked list in the wrong order"),
    (asserting(f"{NODE}\nend = turned(Node(1, Node(2)))\nassert (end.v, end.next.v, end.next.next) == (2, 1, None)"), fenced("def turned(n):\n    last = None\n    while n:\n        n.next, last, n = last, n, n.next\n    return last"), C, "a linked list that comes back turned"),
    (asserting(f"{NODE}\nring = Node(1)\nring.next = ring\nassert cycle(ring) and not cycle(Node(1, Node(2)))"), fenced("def cycle(n):\n    seen = set()\n    while n:\n        if id(n) in seen:\n            return True\n        seen.add(id(n))\n        n = n.next\n    return False"), C, "a linked list that ends in itself"),
    (asserting(f"{NODE}\nassert is_node(Node(1))"), fenced("class Node:\n    pass\ndef is_node(n):\n    return isinstance(n, Node) and n.v == 1"), C, "a class that program and test both define"),
    (asserting("assert f('aab').most_common(1) == [('a', 2)] and f('aab') == {'a': 2, 'b': 1}"), fenced("from collections import Counter\ndef f(s):\n    return Counter(s)"), C, "a counter keeps its methods"),
    (asserting("from collections import OrderedDict\nassert list(f()) == ['b', 'a'] and isinstance(f(), OrderedDict) and g()['x'] == [1]"), fenced("from collections import OrderedDict, defaultdict\ndef f():\n    return OrderedDict(b=1, a=2)\ndef g():\n    d = defaultdict(list)\n    d['x'].append(1)\n    return d"), C, "other dictionaries of the library"),
    (asserting("r = [3, 1]\nd = [r]\ng(d)\nassert r == [1, 3] and d[0] is r"), fenced("def g(d):\n    d[0].sort()"), C, "a nested list that is changed in place"),
    (asserting("a, b = [2], [1]\nd = [a, b]\ng(d)\nassert d == [[1], [2]] and a == [2] and d[0] is b"), fenced("def g(d):\n    d.sort()"), C, "nested lists that change places"),
    (asserting("d = {'k': [1], 'gone': 0}\ng(d=d)\nassert d == {'k': [1, 2], 'new': {3}}"), fenced("def g(d):\n    d['k'].append(2)\n    d['new'] = {3}\n    del d['gone']"), C, "a dictionary given by keyword and changed in place"),
    (asserting("r = [3, 1]\ng(r)\nassert r == [1, 3]"), fenced("def g(r):\n    return sorted(r)"), W, "a list that should have been changed in place"),
    (asserting("assert sum(f(range(1000000))) == 499999500000 and len(f(list(range(1000000)))) == 1000000"), fenced("def f(values):\n    return list(values)"), C, "a million numbers there and back"),
    # breaking out, breaking down
    (SHORT, fenced("import time\nend = time.time() + 300\nwhile time.time() < end:\n    pass\nprint(2 * int(input()))"), W, "minutes of computing"),
    (SHORT, fenced("import time\ntime.sleep(300)\nprint(2 * int(input()))"), W, "minutes of sleep"),
    (SHORT, fenced("import ctypes\nctypes.PyDLL(None).sleep(300)\nprint(2 * int(input()))"), W, "minutes in native code that holds the interpreter"),
    (DOUBLE, fenced("for _ in range(300):\n    print('x' * 10000)\nprint(2 * int(input()))"), W, "a flood of output"),
    (DOUBLE, fenced("import sys\nfor _ in range(300):\n    sys.stderr.write('x' * 10000)\nprint(2 * int(input()))"), C, "a flood of errors beside the right output"),
    (ADD, fenced("import sys\ndef add(a, b):\n    for _ in range(300):\n        sys.stderr.write('x' * 10000)\n    return a + b"), C, "a flood of errors in a function that is right"),
    (SMALL, fenced("text = 'x' * (200 << 20)\nprint(2 * int(input()))"), W, "a string larger than its memory"),
    (SMALL, fenced("items = [b'x' * (10 << 20) for _ in range(20)]\nprint(2 * int(input()))"), W, "memory little by little"),
    (DOUBLE, fenced("import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        time.sleep(2)\n        os._exit(0)\nprint(2 * int(input()))"), W, "more processes than it may have"),
    (DOUBLE, fenced("import threading, time\nfor _ in range(20):\n    threading.Thread(target=time.sleep, args=(2,)).start()\nprint(2 * int(input()))"), W, "more threads than it may have"),
    (DOUBLE, fenced("def f():\n    return f()\nf()"), W, "a recursion without end"),
    (DOUBLE, fenced("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"), W, "killing itself"),
    (DOUBLE, fenced("import os\nos.kill(os.getppid(), 0)\nprint(6)"), W, "a signal to the parent"),
    (DOUBLE, fenced("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)\nprint(2 * int(input()))"), W, "the loopback network"),
    (DOUBLE, fenced("import urllib.request\nprint(urllib.request.urlopen('http://192.0.2.1', timeout=1).read())"), W, "the network"),
    (DOUBLE, fenced("open('/usr/lib/evil.py', 'w').write('')\nprint(2 * int(input()))"), W, "writing to the system"),
    (DOUBLE, fenced("open('/etc/evil', 'w').write('')\nprint(2 * int(input()))"), W, "writing to the configuration"),
    (DOUBLE, fenced("import os\nos.symlink('/etc', 'link')\nopen('link/evil', 'w')\nprint(2 * int(input()))"), W, "a link out of the scratch"),
    (DOUBLE, fenced("import os\nos.chroot('/tmp')\nprint(2 * int(input()))"), W, "another root folder"),
    (DOUBLE, fenced("import os\nos.setuid(0)\nprint(2 * int(input()))"), W, "becoming root"),
    (DOUBLE, fenced("open('big', 'wb').write(b'x' * (64 << 20))\nprint(2 * int(input()))"), W, "a file too large"),
    (
        DOUBLE,
        fenced("for n in range(40):\n    open(str(n), 'wb').write(b'x' * (1 << 20))\nprint(2 * int(input()))"),
        W,
        "too many files for the scratch folder",
    ),
    (DOUBLE, fenced("files = [open('/dev/null') for _ in range(100)]\nprint(2 * int(input()))"), W, "too many open files"),
    (DOUBLE, fenced("import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (-1, -1))\nprint(2 * int(input()))"), W, "raising its own limits"),
    (DOUBLE, fenced("\x00"), W, "a null byte for a program"),
    (DOUBLE, fenced("print('\\ud800')"), W, "half a surrogate pair on the output"),
    (DOUBLE, fenced("(" * 5000), W, "five thousand parentheses"),
]  # fmt: skip
