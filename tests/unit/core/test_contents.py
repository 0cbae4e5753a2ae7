"""Wheel and sdist carry all that a host needs, and the pages that say how it is used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
_SOURCES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "fuseswap", "mount", "docs")
_BUILD = """
import sys
sys.path.insert(0, ".")
from fuseswap.core import build_backend
to = sys.argv[1]  # setuptools changes it
build_backend.build_sdist(to)
build_backend.build_wheel(to, {"core": "interpreted"})
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both, made as pip makes them."""
    source = tmp_path_factory.mktemp("source")
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    to = tmp_path_factory.mktemp("built")
    words = [sys.executable, "-W", "ignore", "-c", _BUILD, str(to)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return to


def wanted() -> set[str]:
    patterns = ("mount/*", "docs/*.md", "docs/*.svg", "docs/man/*.8", "docs/results/*.md")
    found = {str(path.relative_to(ROOT)) for each in patterns for path in ROOT.glob(each)}
    assert {"mount/_fuseswap", "mount/tmpfiles-fuseswap.conf", "docs/man/fuseswap-up.8"} <= found
    return found | {"README.md", "CHANGELOG.md", "LICENSE"}


def test_the_wheel(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition("/data/share/fuseswap/")[2] for name in names}
    assert wanted() - shared == set()
    assert any(name.endswith("data/share/man/man8/fuseswap-up.8") for name in names)


def test_the_sdist(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert wanted() - names == set()
    assert "fuseswap/core/build_backend.py" in names
