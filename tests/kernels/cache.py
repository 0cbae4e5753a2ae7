"""What is built, where it lies, and when it is built again.

`.kernels/` in the checkout, or the directory in FUSESWAP_KERNELS:

    kernel-NAME/{vmlinuz,initrd,release}   root.ext4   programs/   runs/NAME/   results.jsonl

A product is made beside its place and renamed, so that what is there is whole.  Its stamp is
a hash of what it was made from.  One process builds at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


class CommandFailed(Exception):
    """A program this depends on failed; one line that says which and why."""


def directory() -> Path:
    """The cache directory; made where it is missing."""
    found = Path(os.environ.get("FUSESWAP_KERNELS") or CHECKOUT / ".kernels")
    found.mkdir(parents=True, exist_ok=True)
    return found


@contextmanager
def building() -> Iterator[None]:
    """Hold the lock of the cache."""
    with open(directory() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fingerprint(*inputs: Path | str) -> str:
    """A hash of files' contents and of texts."""
    total = hashlib.sha256()
    for one in inputs:
        data = one.read_bytes() if isinstance(one, Path) else one.encode()
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def provide(name: str, made_from: str, make: Callable[[Path], None]) -> Path:
    """The directory ``name`` of the cache, by ``make`` (into an empty one) where it is stale."""
    place = directory() / name
    stamp = place / "stamp"
    if stamp.exists() and stamp.read_text() == made_from:
        return place
    fresh = directory() / f"{name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    make(fresh)
    (fresh / "stamp").write_text(made_from)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)
    return place


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a command; raises `CommandFailed`."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CommandFailed(f"'{words[0]}' is missing; run: scripts/install kernels") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise CommandFailed(f"'{' '.join(words)[:200]}' failed: {' / '.join(said[-3:])}")
    return done.stdout


def make_ext4(image: Path, size_mib: int, content: Path, options: Sequence[str] = ()) -> None:
    """An ext4 image, sparse, with what is in ``content``."""
    with open(image, "wb") as file:
        file.truncate(size_mib << 20)
    run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,root_owner=0:0", *options, "-d", content, image)
