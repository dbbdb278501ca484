"""The package that `pip install .` makes: whole, and it works from another folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("configs", "data_recipes", "pipeline", "rewards", "stages")
ENTRY = "from importlib.metadata import entry_points; entry_points(group='console_scripts')['r1-ladder'].load()()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel is unpacked into, as pip would into site-packages."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree("requirements", source / "requirements")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", "."],
        cwd=source, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").glob("r1_ladder-*.whl")
    folder = tmp_path_factory.mktemp("site-packages")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_every_file_of_the_packages_is_in_it(installed):
    def files(root: Path) -> set[str]:
        return {
            str(path.relative_to(root))
            for name in PACKAGES
            for path in (root / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(installed) == files(Path())
    (info,) = installed.glob("r1_ladder-*.dist-info")
    assert (info / "licenses" / "LICENSE").read_bytes() == Path("LICENSE").read_bytes()


def test_it_works_from_another_folder(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    for arguments in (("check", "--profile", "smoke"), ("run", "base_model", "--profile", "smoke")):
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs/smoke/base_model/manifest.json").is_file()
