"""A compiled core in a directory of its own, built once for each state of the sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mypy.version

from fuseswap.core.build_backend import VARIABLE

SOURCE = Path(__file__).parents[2]
_BUILDS = SOURCE / "build" / "core"  # ignored by git
_PARTS = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "fuseswap", "mount", "docs")
BUILD_TIMEOUT_S = 900.0  # 12 s of processor time; the machine may have little left


def copy_sources(to: Path) -> Path:
    """What a wheel is built of."""
    for name in _PARTS:
        if (SOURCE / name).is_dir():
            shutil.copytree(SOURCE / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(SOURCE / name, to / name)
    return to


def compiled_core() -> Path:
    """A directory for the path that has fuseswap with a compiled core."""
    directory = _BUILDS / _digest()
    if not directory.exists():
        shutil.rmtree(_BUILDS, ignore_errors=True)
        scratch = _BUILDS / f"new-{os.getpid()}"
        (scratch / "source").mkdir(parents=True)
        _build(copy_sources(scratch / "source"), scratch)
        [wheel] = scratch.glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(scratch / "core")
        (scratch / "core").rename(directory)
        shutil.rmtree(scratch)
    return directory


def _build(source: Path, wheels: Path) -> None:
    environment = {**os.environ, VARIABLE: "compiled"}
    environment.pop("PYTHONPATH", None)
    pip = (sys.executable, "-I", "-m", "pip", "--quiet", "--disable-pip-version-check")
    done = subprocess.run(
        (*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", source, "-w", wheels),
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _digest() -> str:
    found = hashlib.sha256(f"{sys.version} {mypy.version.__version__}".encode())
    for path in (SOURCE / "pyproject.toml", *sorted((SOURCE / "fuseswap").rglob("*.py"))):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
