"""Set-up: which packages, from where, and what is said when it goes wrong."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path("requirements")
NO_MATCH = "ERROR: Could not find a version\nERROR: No matching distribution found for torch==2.13.0+cpu\n"
OFFLINE = "WARNING: Retrying (Retry(total=4)) after connection broken\n" + NO_MATCH


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"requirements_{name}", REQUIREMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit = load("audit")


@pytest.fixture
def install(monkeypatch, tmp_path):
    """The installer, with its requirements where they are and all else in an empty folder."""
    module = load("install")
    monkeypatch.setattr(module, "REQUIREMENTS", REQUIREMENTS.resolve())
    monkeypatch.setattr(module, "CONSTRAINTS", [])
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.chdir(tmp_path)
    return module


def requirements(file: Path):
    for line in file.read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            yield from requirements(file.parent / line[3:])
        elif line:
            yield Requirement(line)


def test_every_package_that_set_up_brings_is_pinned():
    pinned = {pin.partition("==")[0] for pin in audit.pins()}
    files = ("torch", "base", "cpu", "dev")
    waiting = [(needed, "") for name in files for needed in requirements(REQUIREMENTS / f"{name}.txt")]
    seen, loose = set(), set()
    while waiting:
        needed, extra = waiting.pop()
        name = canonicalize_name(needed.name)
        if (needed.marker and not needed.marker.evaluate({"extra": extra})) or (name, *needed.extras) in seen:
            continue
        seen.add((name, *needed.extras))
        if name not in pinned:
            loose.add(name)
        try:
            below = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [(Requirement(line), one) for line in below for one in ("", *needed.extras)]
    assert len(seen) > 100
    assert sorted(loose) == []


def test_nothing_that_only_a_gpu_or_a_developer_uses_is_in_the_cpu_set():
    main = {needed.name for name in ("torch", "base", "cpu") for needed in requirements(REQUIREMENTS / f"{name}.txt")}
    assert not main & {"triton", "xgrammar", "numba", "opencv-python-headless", "bitsandbytes", "playwright", "pytest"}


def test_every_extra_is_a_file(install):
    assert all((install.REQUIREMENTS / f"{extra}.txt").is_file() for extra in install.EXTRAS)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  Downloading pyarrow-26.0.1-cp311-cp311-manylinux_2_28_x86_64.whl (55.1 MB)\n", "pyarrow 26.0.1, 55 MB"),
        ("  Using cached torch-2.13.0-cp311-cp311-linux_x86_64.whl (1.2 GB)\n", "torch 2.13.0, 1200 MB"),
        ("  Downloading rich-15.0.0-py3-none-any.whl (310 kB)\n", None),
        ("Installing collected packages: mpmath, sympy, torch\n", "unpacking 3 packages"),
        ("Collecting torch==2.13.0\n", None),
    ],
)
def test_large_downloads_are_shown(install, line, shown):
    assert install.notable(line) == shown


def torch_steps(install, monkeypatch, there=None, replies=(None,), answers=False) -> list[str]:
    """The calls of pip by which PyTorch is installed, where pip replies so in turn."""
    calls, replies = [], list(replies)

    def pip(*arguments):
        calls.append(" ".join(arguments))
        return replies.pop(0)

    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(install, "answers", lambda url: answers)
    monkeypatch.setattr(install, "installed", lambda package: there)
    monkeypatch.setattr(install.sys, "platform", "linux")
    install.install_torch(install.Steps(1))
    return calls


def test_an_index_with_a_cpu_build_of_torch_is_enough(install, monkeypatch):
    (call,) = torch_steps(install, monkeypatch)
    assert re.fullmatch(r"torch==[\d.]+\+cpu", call)


def test_the_torch_that_is_there_stays(install, monkeypatch):
    pinned = (install.REQUIREMENTS / "torch.txt").read_text().strip()
    assert torch_steps(install, monkeypatch, there=pinned.partition("==")[2]) == [pinned]


def test_without_one_the_project_s_own_index_is_taken(install, monkeypatch, capsys):
    _, call = torch_steps(install, monkeypatch, replies=[NO_MATCH, None], answers=True)
    assert call.startswith(f"--extra-index-url {install.CPU_INDEX} torch==")
    assert install.CPU_INDEX in capsys.readouterr().out


def test_where_no_index_has_one_the_cost_is_told_before_the_download(install, monkeypatch, capsys):
    def pip(*arguments):
        if arguments[-1].endswith("+cpu"):
            return NO_MATCH
        assert "fetches about 3 GB" in capsys.readouterr().out
        return None

    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(install, "answers", lambda url: False)
    monkeypatch.setattr(install, "installed", lambda package: None)
    monkeypatch.setattr(install.sys, "platform", "linux")
    install.install_torch(install.Steps(1))


def test_without_a_network_no_second_index_is_tried(install, monkeypatch):
    with pytest.raises(install.SetupError, match=r"no package index answers.*PIP_INDEX_URL"):
        torch_steps(install, monkeypatch, replies=[OFFLINE], answers=True)


def test_what_pip_says_of_a_missing_build_is_understood(install, monkeypatch, tmp_path):
    venv = tmp_path / ".venv"
    venv.symlink_to(sys.prefix)
    monkeypatch.setattr(install, "LOG", tmp_path / "setup.log")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = install.pip("torch==2.13.0+none")
    assert install.NO_BUILD.search(said) and not install.UNREACHABLE.search(said)
    assert said in (tmp_path / "setup.log").read_text()


def test_an_index_that_does_not_answer_is_found_out_in_time(install):
    assert not install.answers("http://127.0.0.1:9/torch/")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("OSError: [Errno 30] Read-only file system: 'x'", "cannot be written to"),
        (OFFLINE, "no package index answers"),
        ("ERROR: Cannot install a and b\nERROR: ResolutionImpossible: see\n", "ResolutionImpossible: see"),
    ],
)
def test_a_failure_is_one_line_that_says_what_to_do(install, said, advice):
    line = install.explain("vLLM", said)
    assert advice in line and "\n" not in line and "setup.log" in line


@pytest.fixture
def made(install, monkeypatch):
    """The commands that make .venv, which are not run."""
    commands, real = [], subprocess.run

    def run(command, **options):
        if "venv" not in command:
            return real(command, **options)
        commands.append(command)
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(install.subprocess, "run", run)
    return commands


def finished(venv: Path, version: str) -> None:
    """A .venv whose Python says that it is of this version."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").write_text(f"#!/bin/sh\necho {version}\n")
    (venv / "bin/python").chmod(0o755)
    (venv / "ready").write_text("cpu\n")


def test_a_half_made_environment_is_made_anew(install, made, capsys):
    (install.VENV / "lib").mkdir(parents=True)
    install.prepare_venv()
    assert "--clear" in made[0] and "did not end" in capsys.readouterr().out


def test_a_finished_environment_stays_whatever_python_calls(install, made):
    finished(install.VENV, "3 99")
    install.prepare_venv()
    assert made == []


def test_another_python_that_was_asked_for_makes_it_anew(install, made, monkeypatch, capsys):
    finished(install.VENV, "3 99")
    monkeypatch.setenv("PYTHON", "python3")
    install.prepare_venv()
    assert len(made) == 1 and "it is of Python 3.99" in capsys.readouterr().out


def test_an_environment_that_is_a_link_is_never_cleared(install, made, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    install.VENV.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(install.SetupError, match="is a link"):
        install.prepare_venv()
    assert made == []


def test_a_folder_that_cannot_be_written_to_is_named(install, made, monkeypatch, tmp_path):
    monkeypatch.setattr(install.os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(install.SetupError, match=re.escape(str(tmp_path))):
        install.prepare_venv()


@pytest.mark.parametrize("arguments", [("tpu",), ("cpu", "puzzle")])
def test_what_there_is_not_is_refused_by_name(install, made, monkeypatch, arguments):
    with pytest.raises(install.SetupError, match=arguments[-1]):
        install.install(arguments[0], list(arguments[1:]))


def test_advisories_are_told_with_the_release_that_mends_them():
    found = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["0.2"]}
    report = {
        "dependencies": [{"name": "a", "version": "0.1", "vulns": [found]}, {"name": "b", "version": "1", "vulns": []}]
    }
    assert audit.summarise(report) == (["a 0.1: PYSEC-1, CVE-1; mended by 0.2"], 1)


def test_packages_that_were_not_looked_up_are_no_all_clear():
    lines, code = audit.summarise({"dependencies": [{"name": "a", "skip_reason": "not found"}]})
    assert code == 2 and "1 of 1 packages could not be looked up" in lines[0]
    lines, code = audit.summarise({"dependencies": [{"name": "b", "version": "1", "vulns": []}]})
    assert code == 0 and "no published advisory" in lines[0]
