"""An environment in which the packages of plugins are really installed: good ones, and bad ones.

It is fresh but for what this one has, which it sees by its path: `pip` installs both packages, and
nothing else.  A test that imports the fixtures runs all its commands there, and so all workers.
"""

from __future__ import annotations

import shutil
import site
import sys
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from tests.support.mounted_devices import TestDevice, must
from tests.support.plugged import BAD_PLUGINS, EXAMPLES


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an environment in which both packages are installed."""
    root = tmp_path_factory.mktemp("environment")
    must(sys.executable, "-m", "venv", "--without-pip", str(root))
    python = str(root / "bin" / "python")
    found = must(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    paths = [path for path in site.getsitepackages() if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    Path(found, "what-is-there.pth").write_text("\n".join(lines) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    must(*pip, "install", "--quiet", "setuptools>=70.1")  # builds without the package `wheel`
    copies = []
    for package in (EXAMPLES, BAD_PLUGINS):  # each is built where it lies
        copies.append(str(root / package.name))
        shutil.copytree(package, copies[-1], ignore=shutil.ignore_patterns("__pycache__"))
    must(*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", *copies)
    return python


@pytest.fixture
def with_plugins(interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands, and so all workers, run in that environment."""
    monkeypatch.setattr(sys, "executable", interpreter)


def log_of(device: TestDevice) -> list[str]:
    return Runtime(device.name).log_path.read_text().splitlines()


def number(device: TestDevice, name: str) -> int:
    """One with labels."""
    return int(device.status()["stats"][name])
