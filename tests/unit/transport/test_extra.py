"""pyfuse3 is an extra: without it everything else works, and one line says what is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.transport import check_installed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
_WITHOUT = """
import pkgutil, sys
from importlib import import_module

sys.modules["pyfuse3"] = None  # an import of it raises
import fuseswap

for found in pkgutil.walk_packages(fuseswap.__path__, "fuseswap."):
    if found.name not in ("fuseswap.transport.pyfuse3", "fuseswap.__main__"):
        import_module(found.name)
print("done")
"""


def test_nothing_else_imports_it() -> None:
    words = [sys.executable, "-c", _WITHOUT]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_it_is_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [text for text in project["dependencies"] if "fuse3" in text]
    assert project["optional-dependencies"]["pyfuse3"] == ["pyfuse3>=3.4"]


def test_without_it_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed("pyfuse3")
    monkeypatch.setattr("fuseswap.transport.find_spec", lambda name: None)
    check_installed("devfuse")
    with pytest.raises(HostError, match=r"pip install 'fuseswap\[pyfuse3\]'") as caught:
        check_installed("pyfuse3")
    assert "\n" not in str(caught.value)
