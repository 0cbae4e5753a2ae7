"""The root file system of guests: this machine's own Python, util-linux and busybox.

Nothing is downloaded: files are copied from this machine with the libraries they need, so a
guest has exactly the versions that the other tests ran with.  Read-only; `/run`, `/tmp` and
`/scratch` can be written.  No service manager: a guest is up in seconds, and what else runs
in it is what a scenario starts.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from fuseswap.linux import refused_call
from tests.kernels import cache

PACKAGES = "usr/lib/guest-packages"
# Interpreters with -I look there, and not at PYTHONPATH.
_PATHS_FILE = "usr/lib/python3/dist-packages/guest.pth"
_SIZE_MIB = 512
_TOOLS = ("losetup", "mkswap", "swapon", "swapoff", "mount", "umount")
_APPLETS = ("sh", "stty", "ln", "mkdir", "sync", "poweroff", "cat", "sleep", "ifconfig")
_NOT_NEEDED = (
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "pydoc_data", "ensurepip",
    "config-*", "dist-packages", "site-packages", "__pycache__",
)  # fmt: skip
_DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "root", "mnt", "etc", "source", "scratch")


def provide() -> Path:
    """The image."""
    made_from = cache.fingerprint(
        Path(__file__),
        cache.CHECKOUT / "constraints.txt",
        cache.CHECKOUT / "pyproject.toml",
        sys.version,
    )
    return cache.provide("root", made_from, _make) / "root.ext4"


def _make(to: Path) -> None:
    top = to / "tree"
    for name in ("bin", "sbin", "lib", "lib64"):
        (top / "usr" / name).mkdir(parents=True)
        (top / name).symlink_to(f"usr/{name}")
    for name in _DIRECTORIES:
        (top / name).mkdir()
    _copy_python(top)
    _copy(Path("/usr/bin/busybox"), top)
    for applet in _APPLETS:
        (top / "usr/bin" / applet).symlink_to("busybox")
    for tool in _TOOLS:
        _copy(_which(tool), top)
    _copy_libraries(top)
    cache.make_ext4(to / "root.ext4", _SIZE_MIB, top, ("-O", "^has_journal", "-m", "0"))
    shutil.rmtree(top)


def _which(tool: str) -> Path:
    found = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not found:
        raise cache.CommandFailed(f"'{tool}' is missing; run: scripts/install kernels")
    return Path(found)


def _merged(path: Path) -> Path:
    """/lib is usr/lib in the guest."""
    first = path.parts[1]
    return Path("/usr", *path.parts[1:]) if first in ("bin", "sbin", "lib", "lib64") else path


def _copy(path: Path, top: Path) -> None:
    """A file to the same place, what a link points to in the link's place."""
    to = top / _merged(path).relative_to("/")
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        shutil.copy2(path.resolve(), to)


def _copy_python(top: Path) -> None:
    """Interpreter, standard library, and the packages fuseswap needs to run."""
    python = Path(sys.executable).resolve()
    _copy(python, top)
    for name in ("guest-python", "hog-python", "run-python"):  # as ps and the kernel show them
        (top / "usr/bin" / name).symlink_to(python)
    library = Path(sysconfig.get_path("stdlib"))
    to = top / library.relative_to("/")
    shutil.copytree(
        library, to, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_NEEDED), dirs_exist_ok=True
    )
    packages = top / PACKAGES
    packages.mkdir()
    paths = top / _PATHS_FILE
    paths.parent.mkdir(parents=True)
    paths.write_text(f"/source\n/{PACKAGES}\n")
    for name in runtime_distributions("fuseswap", "coredis"):
        for file in metadata.files(name) or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.exists():
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    # A package may have files for newer interpreters, which it does not import.
    compile_all = f"{python} -m compileall -qq -j2 --invalidation-mode unchecked-hash"
    cache.run("sh", "-c", f'{compile_all} "$@" || true', "compileall", to, packages)


def library_at(name: str) -> Path:
    """Where a library lies that is loaded by its name, and that no program here is linked to."""
    try:
        ctypes.CDLL(name)
    except OSError:
        raise cache.CommandFailed(f"'{name}' is missing; run: scripts/install kernels") from None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name == name or path.name.startswith(name + "."):
            return path.with_name(name)
    raise cache.CommandFailed(f"'{name}' is nowhere")


def runtime_distributions(name: str, *others: str) -> list[str]:
    """What ``name`` needs to run, and what that needs, without itself; with ``others``."""
    found: dict[str, None] = {}
    waiting = [*_required(name), *others]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += _required(one)
    return sorted(found)


def _required(name: str) -> list[str]:
    """Names in `Requires-Dist`, without those of extras and of other systems."""
    try:
        wanted = [Requirement(line) for line in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:
        return []
    return [
        one.name.lower() for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})
    ]


def _copy_libraries(top: Path) -> None:
    """The shared libraries of every program and module in the tree."""
    files = [
        path
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"
    ]
    said = cache.run("sh", "-c", 'ldd "$@" 2>/dev/null || true', "ldd", *files)
    for library in sorted(set(re.findall(r"(?:=> |\t)(/\S+) \(0x", said))):
        if not library.startswith(str(top)):
            _copy(Path(library), top)
    _copy(library_at(refused_call.LIBRARY), top)
    for name in ("ld.so.cache", "ld.so.conf"):
        if (path := Path("/etc") / name).exists():
            _copy(path, top)
