"""Makes .venv and installs pinned packages into it; called by install.sh, by any Python from 3.11, before there is one.

Each call of pip is a step. What pip says goes to .venv/setup.log; people see the steps, and every download of note.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

VENV = Path(".venv")
READY = VENV / "ready"
"""Holds the name of the variant, once everything of it is installed."""

LOG = VENV / "setup.log"
REQUIREMENTS = Path("requirements")
CONSTRAINTS = ["-c", str(REQUIREMENTS / "constraints.txt")]
EXTRAS = ("audit", "dev", "gguf", "lm-eval", "near-duplicates", "puzzles", "quantize", "server")

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""The PyTorch project's own index of builds without CUDA."""

INDEX_TIMEOUT_S = 5.0
NOTABLE_MB = 20.0

SIZES_GB = {"cpu": (0.5, 1.9), "gpu": (5.0, 12.0), "no-vllm": (0.3, 1.2)}
"""What a variant fetches, and what it takes on the disk."""

CUDA_SIZES_GB = (3.0, 7.0)
"""The same, of PyTorch's CUDA build and of the NVIDIA packages that come with it."""

FETCHED = re.compile(r"\s*(?:Downloading|Using cached) (\S+?)\.whl \((\d+(?:\.\d+)?) (kB|MB|GB)\)")
NO_BUILD = re.compile(r"No matching distribution found for torch|ResolutionImpossible")
"""What pip says where its index lacks a build; the second where its own configuration constrains torch, too."""

UNREACHABLE = re.compile(r"Retrying \(Retry|ConnectTimeout|NewConnectionError|NameResolutionError|Could not fetch URL")


class SetupError(Exception):
    """What went wrong, and what to do."""


class Steps:
    """Counts the steps and says where it is."""

    def __init__(self, count: int):
        self.count, self.done = count, 0

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        self.done += 1
        say(f"step {self.done} of {self.count}: {what}")
        began = time.monotonic()
        yield
        say(f"step {self.done} of {self.count}: done in {time.monotonic() - began:.0f} s")

    def install(self, what: str, *arguments: str) -> None:
        """A step that is one call of pip. Raises SetupError."""
        with self.step(what):
            must_install(what, *arguments)


def must_install(what: str, *arguments: str) -> None:
    said = pip(*arguments)
    if said is not None:
        raise SetupError(explain(what, said))


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def pip(*arguments: str) -> str | None:
    """None where `pip install` succeeds, else what it said. Every download of note is shown as it begins."""
    command = [VENV / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    command.append("--no-compile")  # what is never imported is never compiled: a third of the time and of the files
    with LOG.open("a", encoding="utf-8") as log:
        print(f"$ pip install {' '.join(arguments)}", file=log, flush=True)
        said = []
        with subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout:
                log.write(line)
                said.append(line)
                if note := notable(line):
                    say(f"    {note}")
    return "".join(said) if process.returncode else None


def notable(line: str) -> str | None:
    """What a person who waits should see of a line of pip's: a large download, or the unpacking at the end."""
    if line.startswith("Installing collected packages: "):
        return f"unpacking {line.count(',') + 1} packages"
    found = FETCHED.match(line)
    if found is None:
        return None
    size = float(found[2]) * {"kB": 0.001, "MB": 1.0, "GB": 1000.0}[found[3]]
    name, version = Path(found[1]).name.split("-")[:2]
    return f"{name} {version}, {size:.0f} MB" if size >= NOTABLE_MB else None


def explain(what: str, said: str) -> str:
    """Why pip failed, in a line that says what to do."""
    whole = f"What pip said is in {LOG}."
    if "No space left on device" in said:
        return f"the disk is full. Make room and run the same command again. {whole}"
    if "Read-only file system" in said or "Permission denied" in said:
        return f"{VENV} cannot be written to. Run as its owner, or from a copy of this folder that is yours. {whole}"
    if UNREACHABLE.search(said):
        return (
            "no package index answers. Behind a proxy set https_proxy, and for an index of your own PIP_INDEX_URL; "
            f"then run the same command again. {whole}"
        )
    errors = [line.removeprefix("ERROR: ").strip() for line in said.splitlines() if line.startswith("ERROR: ")]
    return f"pip could not install {what}: {errors[-1] if errors else 'it says no reason'} {whole}"


def install_torch(steps: Steps) -> None:
    """PyTorch without CUDA, wherever there is one to be had: it is what a machine without a GPU can use.

    What is installed already stays. The index that pip is set up with comes first; PyPI's builds for Linux are CUDA
    builds, so after it comes the PyTorch project's own index, and where that does not answer the CUDA build, which
    works on a CPU too.
    """
    wanted = (REQUIREMENTS / "torch.txt").read_text(encoding="utf-8").strip()
    what = wanted.replace("==", " ")
    with steps.step(f"{what} for CPUs"):
        if sys.platform == "linux" and installed("torch") != wanted.partition("==")[2]:
            said = pip(*CONSTRAINTS, f"{wanted}+cpu")
            if said is None:
                return
            if not NO_BUILD.search(said) or UNREACHABLE.search(said):
                raise SetupError(explain(what, said))
            if answers(f"{CPU_INDEX}/torch/"):
                say(f"    pip's own index has it with CUDA only; taking it from {CPU_INDEX}")
                must_install(what, "--extra-index-url", CPU_INDEX, *CONSTRAINTS, f"{wanted}+cpu")
                return
            fetched, taken = CUDA_SIZES_GB
            say(
                f"    pip's own index has it with CUDA only, and {CPU_INDEX} does not answer. The CUDA build works "
                f"on a CPU, but fetches about {fetched:.0f} GB and takes {taken:.0f} GB of disk. To have the other, "
                "press Ctrl-C and name an index that has it with PIP_EXTRA_INDEX_URL."
            )
        must_install(what, *CONSTRAINTS, wanted)


def answers(url: str, timeout_s: float = INDEX_TIMEOUT_S) -> bool:
    """Whether the address answers in time."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout_s):
            return True
    except (OSError, ValueError):
        return False


def installed(package: str) -> str | None:
    """Version of a package in .venv without its local part (`+cpu`)."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    found = subprocess.run([VENV / "bin/python", "-c", code], capture_output=True, text=True)
    return found.stdout.strip().partition("+")[0] or None


def install_variant(variant: str) -> None:
    fetched, taken = SIZES_GB[variant]
    say(f"the {variant} packages: about {fetched:.1f} GB to fetch, {taken:.1f} GB of disk")
    free = shutil.disk_usage(".").free / 1e9
    if free < taken:
        raise SetupError(f"{free:.1f} GB are free on this disk. Make room and run the same command again.")
    base = [*CONSTRAINTS, "-r", str(REQUIREMENTS / "base.txt")]
    if variant == "gpu":
        Steps(1).install("PyTorch, vLLM and what the ladder imports", *base, "-r", str(REQUIREMENTS / "gpu.txt"))
        return
    steps = Steps(3 if variant == "cpu" else 2)
    install_torch(steps)
    if variant == "cpu":
        steps.install("what the ladder and vLLM import", *base, "-r", str(REQUIREMENTS / "cpu.txt"))
        steps.install("vLLM for CPUs", "--no-deps", "-r", str(REQUIREMENTS / "cpu-vllm.txt"))
    else:
        steps.install("what the ladder imports", *base)


def find_variant(asked: str) -> str:
    """The variant to install. Raises SetupError for one that there is not."""
    if asked != "auto":
        if asked not in SIZES_GB:
            raise SetupError(f"VARIANT={asked} is not one of auto, {', '.join(SIZES_GB)}")
        return asked
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except OSError:
        listed = ""
    if "GPU" in listed:
        say(f"a GPU is here: {listed.splitlines()[0]}")
        return "gpu"
    say("nvidia-smi finds no GPU")
    return "cpu"


def prepare_venv() -> None:
    """Leaves a .venv of the Python that is wanted. One that was never finished is made anew."""
    if not os.access(".", os.W_OK):
        raise SetupError(f"{Path.cwd()} cannot be written to. Run from a copy of this folder that is yours.")
    version = sys.version_info[:2]
    there = venv_version()
    keep = there is not None and READY.exists() and ("PYTHON" not in os.environ or there == version)
    if keep:
        return
    if VENV.is_symlink():
        raise SetupError(
            f"{VENV} is a link to {VENV.resolve()}, which is not finished or of another Python. Remove it."
        )
    if VENV.exists():
        old = f"Python {there[0]}.{there[1]}" if there else "an unknown Python"
        why = f"it is of {old}" if READY.exists() else "the set-up before did not end"
        say(f"making {VENV} anew with Python {version[0]}.{version[1]}, because {why}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        said = made.stdout + made.stderr
        if "ensurepip" in said or "No module named venv" in said:
            raise SetupError("the module venv is missing. On Debian and Ubuntu: apt-get install python3-venv")
        last = said.strip().splitlines()[-1] if said.strip() else "it says no reason"
        raise SetupError(f"Python could not make {VENV}: {last}")


def venv_version() -> tuple[int, int] | None:
    """(major, minor) of the Python in .venv; None where there is none that runs."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        found = subprocess.run([VENV / "bin/python", "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return tuple(map(int, found.stdout.split())) if found.returncode == 0 else None


def up_to_date(marker: Path, sources: Iterable[Path]) -> bool:
    return marker.exists() and all(marker.stat().st_mtime >= source.stat().st_mtime for source in sources)


def need_programs(variant: str, extras: list[str]) -> None:
    """Installs, where this is root on Debian, what the packages need of the system; else says what is missing."""
    need_program(shutil.which("bwrap"), "bubblewrap", "code rewards and the sandbox's tests need")
    if variant == "gpu":
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        need_program(compiler, "gcc", "Triton needs, to build its kernels for the GPU")
        header = Path(sysconfig.get_paths()["include"], "Python.h")
        need_program(header.exists(), "python3-dev", "Triton needs, to build its kernels for the GPU")
    if "dev" in extras:
        need_program(shutil.which("chromium"), "chromium", "the report's tests need")


def need_program(found: object, package: str, whom: str) -> None:
    if found:
        return
    if os.getuid() == 0 and shutil.which("apt-get"):
        say(f"installing the system's package {package}, which {whom}")
        install = ["apt-get", "install", "-y", "-qq", package]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for commands in ([install], [["apt-get", "update", "-qq"], install]):
            if all(subprocess.run(command, **quiet).returncode == 0 for command in commands):
                return
    say(f"the system's package {package} is missing, which {whom}")


def install(asked: str, extras: list[str]) -> None:
    """Installs a variant and extras, those that are not installed yet. Raises SetupError."""
    unknown = [extra for extra in extras if extra not in EXTRAS]
    if unknown:
        raise SetupError(f"there is no extra {', '.join(unknown)}. Extras: {', '.join(EXTRAS)}")
    prepare_venv()
    there = READY.read_text(encoding="utf-8").strip() if READY.exists() else None
    variant = there if there and (asked in ("auto", there)) else find_variant(asked)
    main = [REQUIREMENTS / name for name in ("base.txt", "torch.txt", "cpu.txt", "cpu-vllm.txt", "gpu.txt")]
    if there != variant or not up_to_date(READY, [*main, REQUIREMENTS / "constraints.txt"]):
        READY.unlink(missing_ok=True)
        install_variant(variant)
    if not up_to_date(READY, REQUIREMENTS.iterdir()):
        READY.write_text(variant + "\n", encoding="utf-8")
    for extra in extras:
        marker, file = VENV / "extras" / extra, REQUIREMENTS / f"{extra}.txt"
        if not up_to_date(marker, [file, REQUIREMENTS / "constraints.txt"]):
            Steps(1).install(f"the extra {extra}", *CONSTRAINTS, "-r", str(file))
        marker.parent.mkdir(exist_ok=True)
        marker.write_text("\n", encoding="utf-8")
    need_programs(variant, extras)
    say(f"done: {VENV} holds the {variant} packages{''.join(f', {extra}' for extra in extras)}")


def main(arguments: list[str]) -> NoReturn:
    try:
        install(arguments[0] if arguments else "auto", [word for text in arguments[1:] for word in text.split()])
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("setup: stopped. Run the same command to go on.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
