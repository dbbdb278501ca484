"""What runs first in the sandbox: limits, an unprivileged user, then the program. Sent in as compiled code.

Only the standard library, and as little of it as can be: every import costs each run. `CONFIG` is set by the starter.
"""

import builtins
import os
import resource
import sys

NO_DUMP = 0
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 4, 22, 38, 2


def confine(config):
    """Lower every limit for good, and give up the rights of root."""
    os.chdir(config["scratch"])
    limits = {
        resource.RLIMIT_CPU: config["cpu_s"],
        resource.RLIMIT_AS: config["memory_bytes"],
        resource.RLIMIT_FSIZE: config["file_bytes"],
        resource.RLIMIT_NOFILE: config["open_files"],
        resource.RLIMIT_CORE: NO_DUMP,
        resource.RLIMIT_NPROC: config["processes"],
    }
    if config["uid"] is not None:
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def harden(filter_program, dumpable):
    """For levels that no other program guards: no way to more rights, no dangerous system calls, and no look into the
    memory of this process for others of the same user."""

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]

    calls = [(PR_SET_NO_NEW_PRIVS, 1)]
    if filter_program is not None:
        sent = Filter(len(filter_program) // 8, filter_program)
        calls.append((PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(sent)))
    if not dumpable:
        calls.append((PR_SET_DUMPABLE, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    for call, *arguments in calls:
        padded = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in (*arguments, 0, 0, 0, 0)][:4]
        if libc.prctl(call, *padded) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({call}) was refused")


def run_program(source):
    """Run `source` as `__main__`, in a namespace that holds nothing of the starter's."""
    main = type(sys)("__main__")
    main.__dict__.update(__file__="solution.py", __builtins__=__builtins__)
    sys.modules["__main__"] = main
    sys.argv[:] = ["solution.py"]
    exec(compile(source, "solution.py", "exec"), main.__dict__)


if CONFIG["harden"]:  # noqa: F821
    import ctypes  # while it can be read: another user may not be allowed to

confine(CONFIG)  # noqa: F821
if CONFIG["harden"]:  # noqa: F821
    harden(CONFIG["filter"], CONFIG["role"] == "program")  # noqa: F821
if CONFIG["role"] != "judge":  # noqa: F821
    builtins.exit = builtins.quit = sys.exit  # which `site` would give to scripts
if CONFIG["role"] != "program":  # noqa: F821
    open(os.__file__).close()  # where its user cannot read the library, the program is not to blame
if not CONFIG["keep_output"]:  # noqa: F821
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads what is written from here on: it would block
os.write(CONFIG["control_fd"], b"ready\n")  # noqa: F821
if CONFIG["role"] == "program":  # noqa: F821
    os.close(CONFIG["control_fd"])  # noqa: F821
    run_program(CONFIG["source"])  # noqa: F821
