"""What runs first in the sandbox: limits, an unprivileged user, then the program. Sent in as compiled code.

Only the standard library, and as little of it as can be: every import costs each run. `CONFIG` is set by the starter.
"""

import os
import resource
import sys

NO_DUMP = 0


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


def run_program(source):
    """Run `source` as `__main__`, in a namespace that holds nothing of the starter's."""
    main = type(sys)("__main__")
    main.__dict__.update(__file__="solution.py", __builtins__=__builtins__)
    sys.modules["__main__"] = main
    sys.argv[:] = ["solution.py"]
    exec(compile(source, "solution.py", "exec"), main.__dict__)


confine(CONFIG)  # noqa: F821
if not CONFIG["keep_output"]:  # noqa: F821
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads what is written from here on: it would block
os.write(CONFIG["control_fd"], b"ready\n")  # noqa: F821
if CONFIG["role"] == "program":  # noqa: F821
    os.close(CONFIG["control_fd"])  # noqa: F821
    run_program(CONFIG["source"])  # noqa: F821
