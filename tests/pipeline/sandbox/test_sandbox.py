"""The sandbox: what a program cannot do, what it can, and who is blamed."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline import sandbox
from pipeline.sandbox import Ending, Level, Limits, SandboxError, levels, probe
from pipeline.sandbox.process import STARTER, Started

PATIENT = Limits(cpu_s=30, wall_s=120.0)
"""For programs that end: more than the busiest machine takes."""
QUICK = Limits(cpu_s=1, wall_s=2.0)
"""For programs that have to be ended. Without a sandbox they would end by themselves, in minutes."""
HANG_S = 120.0
PROCESSES = "import os, time\ndef child():\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)"
"""A few processes that end by themselves."""


@pytest.fixture(autouse=True, scope="module")
def full_level():
    """Without bubblewrap these tests would prove nothing, so they fail and say what to install."""
    level = sandbox.best_level()
    assert level.full, (
        f"the sandbox level here is {level}; the tests need bubblewrap: apt-get install bubblewrap, "
        "on a machine that allows namespaces"
    )


def said(program, stdin="", limits=PATIENT, level=None):
    """What a program that must end well writes."""
    run = sandbox.run(program, stdin, limits, level)
    assert run.ending is Ending.FINISHED, run
    return run.stdout.decode().strip()


def refused(program, error, limits=PATIENT):
    """The program must fail with the error, and not by anything else."""
    run = sandbox.run(program, limits=limits)
    assert run.ending is Ending.FAILED
    assert error in run.stderr


@pytest.mark.parametrize("level", list(Level))
def test_a_program_reads_its_input_and_writes_its_output_at_every_level(level):
    assert said("print(input()[::-1])", "abc\n", level=level) == "cba"


def test_environment_is_scrubbed(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    for level in Level:
        assert "hunter2" not in said("import os\nprint(dict(os.environ))", level=level)


def test_no_files_of_the_host_are_visible(tmp_path):
    (tmp_path / "secret").write_text("x")
    refused(f"open({str(tmp_path / 'secret')!r})", "FileNotFoundError")
    refused("open('/etc/passwd')", "FileNotFoundError")
    visible = set(said("import os\nprint(*os.listdir('/'))").split())
    assert not visible & {"home", "var", "srv", "mnt", "opt", "boot", "sys", "run"}


def test_the_repository_is_not_visible():
    refused(f"import os\nos.listdir({os.path.dirname(__file__)!r})", "FileNotFoundError")


@pytest.mark.parametrize("folder", ["/", "/usr", "/usr/lib", "/etc", "/dev", "/dev/shm", "/proc"])
def test_nothing_but_the_scratch_can_be_written(folder):
    run = sandbox.run(f"open({folder + '/evil'!r}, 'w').write('x')", limits=PATIENT)
    assert run.ending is Ending.FAILED
    assert any(error in run.stderr for error in ("Read-only file system", "Permission denied", "No such file"))


def test_the_scratch_is_new_each_time_and_gone_after():
    assert said("open('note', 'w').write('x')\nimport os\nprint(os.listdir())") == "['note']"
    assert said("import os\nprint(os.listdir())") == "[]"


def test_runs_share_nothing(tmp_path):
    """One program leaves all the marks it can; another finds none of them."""
    said(
        "import builtins, os, sys, json\nbuiltins.print_ = 1\nsys.modules['json'].loads = None\n"
        "open('/tmp/mark', 'w').write('x')\nos.environ['MARK'] = 'x'"
    )
    found = said(
        "import builtins, os, json\n"
        "print(hasattr(builtins, 'print_'), json.loads is None, os.path.exists('/tmp/mark'), 'MARK' in os.environ)"
    )
    assert found == "False False False False"


def test_the_hosts_loopback_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run = sandbox.run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)", limits=PATIENT)
    assert run.ending is Ending.FAILED
    assert "Network is unreachable" in run.stderr or "Connection refused" in run.stderr


def test_abstract_sockets_of_the_host_cannot_be_reached():
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0sandbox-test")
        server.listen()
        refused("import socket\nsocket.socket(socket.AF_UNIX).connect('\\0sandbox-test')", "ConnectionRefusedError")


def test_other_processes_are_invisible():
    pids = [int(pid) for pid in said("import os\nprint(*[p for p in os.listdir('/proc') if p.isdigit()])").split()]
    assert len(pids) <= 3


def test_nothing_outlives_the_run():
    program = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.close(0); os.close(1); os.close(2)\n"
        "    time.sleep(300)\nprint('done')"
    )
    before = set(psutil.pids())

    def left():
        new = [process for process in psutil.process_iter(["uids", "cmdline"]) if process.pid not in before]
        return [
            process
            for process in new
            if (process.info["uids"] and process.info["uids"].real >= levels.FIRST_UID)
            or STARTER in (process.info["cmdline"] or [])
        ]

    assert said(program) == "done"
    end = time.monotonic() + HANG_S
    while left() and time.monotonic() < end:
        time.sleep(0.05)
    assert not left()


def test_rights_are_gone():
    status = said(
        "print(*[line for line in open('/proc/self/status') if line[:6] in ('CapEff', 'CapPrm', 'NoNewP', 'Seccom')])"
    )
    assert "CapEff:\t0000000000000000" in status and "CapPrm:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert said("import os\nprint(os.getuid() != 0)") == "True" or os.geteuid() != 0


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("unshare", "0x10000000"),
        ("unshare", "0x00020000"),
        ("ptrace", "0, 0, 0, 0"),
        ("mount", "0, b'/tmp', b'tmpfs', 0, 0"),
        ("shmget", "0, 4096, 0o1600"),
        ("semget", "0, 1, 0o1600"),
        ("msgget", "0, 0o1600"),
        ("memfd_create", "b'x', 0"),
    ],
)
def test_dangerous_system_calls_are_refused(call, arguments):
    program = (
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.{call}({arguments}), ctypes.get_errno())"
    )
    assert said(program) == "-1 1"


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_PACKET", "AF_ALG"])
def test_sockets_that_no_network_namespace_shuts_in_are_refused(family):
    refused(f"import socket\nsocket.socket(socket.{family}, socket.SOCK_STREAM)", "Address family not supported")


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET", "AF_INET6"])
def test_other_sockets_can_be_made(family):
    assert said(f"import socket\nsocket.socket(socket.{family}, socket.SOCK_STREAM)\nprint('made')") == "made"


@pytest.mark.parametrize("level", list(Level))
def test_system_calls_are_filtered_and_rights_cannot_be_gained_at_every_level(level):
    lines = said("print(open('/proc/self/status').read())", level=level).splitlines()
    assert "NoNewPrivs:\t1" in lines and "Seccomp:\t2" in lines


def test_who_judges_cannot_be_looked_into():
    """What hardens a process at the weaker levels, in a process of its own."""
    source = Path(sandbox.__file__).with_name("inside.py").read_text()
    definitions, _, _ = source.partition('\nif CONFIG["harden"]')
    program = (
        f"import ctypes\n{definitions}\nharden(None, dumpable=False)\nprint(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_S)
    assert done.stdout == "0\n", done.stderr


def test_errors_that_nobody_reads_block_no_function():
    program = "import sys\ndef f():\n    for _ in range(100): sys.stderr.write('x' * 10_000)\n    return 1"
    checked = sandbox.run_assertions(program, ["assert f() == 1"], limits=PATIENT)
    assert checked.passed, checked.message


def test_a_new_user_namespace_cannot_be_cloned():
    clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    program = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.syscall({clone}, 0x10000011, 0, 0, 0, 0), ctypes.get_errno())"
    )
    assert said(program) == "-1 1"


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("import time\ntime.sleep(300)", Ending.OUT_OF_TIME),
        ("import ctypes\nctypes.PyDLL(None).sleep(300)", Ending.OUT_OF_TIME),
        ("import os\nos.close(1)\nos.close(2)\nimport time\ntime.sleep(300)", Ending.OUT_OF_TIME),
    ],
)
def test_a_program_that_does_not_end_is_ended(program, ending):
    began = time.monotonic()
    assert sandbox.run(program, limits=QUICK).ending is ending
    assert time.monotonic() - began < HANG_S


def test_a_program_that_writes_too_much_is_ended():
    program = "import time\nfor _ in range(1000): print('x' * 4096)\ntime.sleep(300)"
    assert sandbox.run(program, limits=PATIENT).ending is Ending.TOO_MUCH_OUTPUT


@pytest.mark.parametrize(
    "prelude", ["", "import signal\n[signal.signal(s, signal.SIG_IGN) for s in (2, 14, 15, 24)]\n"]
)
def test_cpu_seconds_run_out_whatever_signals_are_ignored(prelude):
    program = prelude + "import time\nend = time.time() + 300\nwhile time.time() < end: pass"
    run = sandbox.run(program, limits=Limits(cpu_s=1, wall_s=HANG_S))
    assert run.ending is Ending.FAILED


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("'x' * (200 << 20)", "MemoryError"),
        (f"{PROCESSES}\nfor _ in range(20): child()", "Resource temporarily unavailable"),
        ("open('big', 'wb').write(b'x' * (64 << 20))", "File too large"),
        ("for n in range(40): open(str(n), 'wb').write(b'x' * (1 << 20))", "No space left on device"),
        ("files = [open('/dev/null') for _ in range(100)]", "Too many open files"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "ValueError"),
    ],
)
def test_limits_hold(program, error):
    refused(program, error, dataclasses.replace(PATIENT, memory_mb=100))


def test_processes_of_one_run_leave_room_for_another():
    program = (
        f"{PROCESSES}\ntry:\n    for _ in range(20): child()\nexcept OSError: print('full', flush=True)\n"
        "time.sleep(300)"
    )
    with Started("program", {"source": program}, PATIENT, sandbox.best_level(), keep_output=True) as full:
        assert full.process.stdout.readline() == b"full\n"
        assert said("import threading\nt = threading.Thread(target=print, args=['ok'])\nt.start()\nt.join()") == "ok"


def test_the_clock_starts_with_the_program(monkeypatch):
    """What comes before it, here three seconds, does not count."""
    slowly = ["/bin/sh", "-c", 'sleep 3; exec "$@"', "sh"]
    monkeypatch.setattr("pipeline.sandbox.process.wrapped", lambda *arguments: [*slowly, *levels.wrapped(*arguments)])
    run = sandbox.run("print(1)", limits=PATIENT)
    assert (run.ending, run.stdout) == (Ending.FINISHED, b"1\n")
    assert run.seconds < 3


def test_exit_codes_and_errors_are_told():
    run = sandbox.run("import sys\nprint('out')\nsys.exit('why')", limits=PATIENT)
    assert (run.ending, run.exit_code, run.stdout, run.stderr) == (Ending.FAILED, 1, b"out\n", "why\n")


def test_large_input_reaches_the_program():
    assert said("import sys\nprint(len(sys.stdin.read()))", "x" * 5_000_000) == "5000000"


def test_assertions_pass_and_fail():
    program = "def double(x):\n    return 2 * x"
    assert sandbox.run_assertions(
        program, ["assert double(2) == 4", "assert candidate('a') == 'aa'"], "double", PATIENT
    ).passed
    checked = sandbox.run_assertions(program, ["assert double(2) == 4", "assert double(2) == 5"], "double", PATIENT)
    assert not checked.passed and "test 2 of 2: AssertionError" in checked.message


@pytest.mark.parametrize(
    "value",
    ["None", "True", "10**5000", "-1.5", "float('inf')", "'é\\ud800\\x00'", "b'\\x00'", "(1, [2, {3: {4}}])",
     "frozenset([1])",
     "range(3)", "1 + 2j", "__import__('fractions').Fraction(1, 3)", "__import__('decimal').Decimal('1.10')",
     "__import__('datetime').date(2024, 2, 29)", "__import__('collections').deque([1, 2], 3)",
     "__import__('collections').OrderedDict(a=1)", "__import__('collections').Counter('aab')"],
)  # fmt: skip
def test_plain_values_cross_unchanged(value):
    program = f"def give():\n    return {value}\ndef take(x):\n    return x == {value}"
    checked = sandbox.run_assertions(
        program, [f"assert give() == {value}", f"assert take({value}) is True"], limits=PATIENT
    )
    assert checked.passed, checked.message


def test_a_program_cannot_use_what_a_test_gives_it_but_call_it():
    program = (
        "def peek(function):\n    try:\n        return function.__globals__\n    except Exception as error:\n"
        "        return type(error).__name__"
    )
    assert sandbox.run_assertions(program, ["assert peek(lambda: 1) == 'PermissionError'"], limits=PATIENT).passed


def test_a_sandbox_that_cannot_start_is_not_the_programs_fault(monkeypatch):
    monkeypatch.setattr("pipeline.sandbox.process.interpreter", lambda: "/no/such/python")
    with pytest.raises(SandboxError, match="could not start"):
        sandbox.run("print(1)")


def test_a_weak_level_is_refused_unless_allowed(monkeypatch):
    monkeypatch.setattr(probe, "best_level", lambda: Level.LIMITS)
    with pytest.raises(SandboxError, match=r"apt-get install bubblewrap.*allow_weak_sandbox"):
        probe.require()
    assert probe.require(allow_weak=True) is Level.LIMITS
    assert "weak" in probe.describe()


def test_without_bubblewrap_the_level_is_a_weaker_one(monkeypatch):
    find = levels.shutil.which
    monkeypatch.setattr(levels.shutil, "which", lambda name: None if name == "bwrap" else find(name))
    probe.best_level.cache_clear()
    try:
        assert not probe.best_level().full
    finally:
        monkeypatch.undo()
        probe.best_level.cache_clear()
