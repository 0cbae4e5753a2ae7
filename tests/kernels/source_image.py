"""The second disk of a guest: the fuseswap that is tried, and what runs the scenario.

fuseswap may be that of another checkout, or of a commit; the guest's programs are always
ours.  Everything is compiled here: a guest takes seconds to compile what one command imports.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.kernels import cache

_SIZE_MIB = 64
_C_PROGRAMS = ("hog", "bystander", "watcher", "reporter", "waiters")
_IGNORED = shutil.ignore_patterns("__pycache__", "*.c.o")


@dataclass(frozen=True, slots=True)
class Source:
    """A checkout as it lies there, or one commit of it."""

    directory: Path = cache.CHECKOUT
    commit: str | None = None

    def describe(self) -> str:
        """Its commit, with ``-dirty`` where the working tree has more than that."""
        name = ("describe", "--always", "--match=", "--abbrev=10")
        words = [*name, self.commit] if self.commit else [*name, "--dirty"]
        try:
            return cache.run("git", "-C", self.directory, *words).strip()
        except cache.CommandFailed:
            return self.directory.name  # no checkout of git


def make_programs(to: Path) -> None:
    """The programs in C, linked statically."""
    for name in _C_PROGRAMS:
        source = cache.HERE / "guest" / f"{name}.c"
        cache.run("gcc", "-O2", "-Wall", "-Wextra", "-static", "-o", to / name, source)


def programs() -> Path:
    """Directory of the compiled programs."""
    files = [cache.HERE / "guest" / f"{name}.c" for name in _C_PROGRAMS]
    return cache.provide("programs", cache.fingerprint(Path(__file__), *files), make_programs)


def make(source: Source, image: Path) -> None:
    """Write the disk image."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        if source.commit:
            archive = top / "archive.tar"
            cache.run("git", "-C", source.directory, "archive", "-o", archive, source.commit,
                      "fuseswap")  # fmt: skip
            cache.run("tar", "-x", "-f", archive, "-C", top)
            archive.unlink()
        else:
            shutil.copytree(source.directory / "fuseswap", top / "fuseswap", ignore=_IGNORED)
        shutil.copytree(cache.HERE / "guest", top / "tests/kernels/guest", ignore=_IGNORED)
        for package in ("tests", "tests/kernels"):
            shutil.copy(cache.CHECKOUT / package / "__init__.py", top / package)
        shutil.copytree(programs(), top / "programs")
        cache.run(sys.executable, "-m", "compileall", "-q", "-j2",
                  "--invalidation-mode", "unchecked-hash", top)  # fmt: skip
        cache.make_ext4(image, _SIZE_MIB, top, ("-O", "^has_journal"))
