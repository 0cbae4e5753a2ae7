"""An ordinary user mounts through fusermount3: the file only, nobody else's to see."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen

import pytest

from tests.support.mounted_devices import (
    AS_NOBODY,
    NOBODY,
    TRANSPORTS,
    fuseswap_command,
    run,
    wait_until,
)

pytestmark = pytest.mark.no_swap

_EXERCISE = """
import os, sys
fd = os.open(sys.argv[1] + "/swapfile", os.O_RDWR)
data = os.urandom(100_000) + bytes(50_000)
assert os.pwrite(fd, data, 12345) == len(data)
assert os.pread(fd, len(data), 12345) == data
found = os.fstat(fd)
assert (found.st_uid, found.st_mode & 0o777) == (os.getuid(), 0o600), found
assert int(open(sys.argv[1] + "/stats/stored_pages").read()) > 0
open(sys.argv[1] + "/params/compressor", "w").write("zstd:1")
"""


@dataclass(frozen=True, slots=True)
class User:
    """Nobody, at home in a mount namespace of its own, where anybody may open /dev/fuse.

    That is Debian's default (udev); a container or a bare virtual machine may be stricter, and
    the permissions of the machine are not the tests' to change.
    """

    home: Path
    namespace: Popen[bytes]

    @property
    def directory(self) -> str:
        """Where to mount."""
        return str(self.home / "mnt")

    def run(self, *command: str) -> CompletedProcess[str]:
        """Run as nobody, in here."""
        enter = ("nsenter", f"--mount=/proc/{self.namespace.pid}/ns/mnt", "--")
        run_dir = str(self.home / "run")
        environment = {**os.environ, "FUSESWAP_RUNTIME_DIR": run_dir, "HOME": str(self.home)}
        return run([*enter, *AS_NOBODY, *command], env=environment, cwd="/")

    def fuseswap(self, *arguments: str) -> CompletedProcess[str]:
        """Run the command."""
        return self.run(*fuseswap_command(*arguments))

    def is_mounted(self) -> bool:
        """Whether it is, seen from inside."""
        mounts = Path(f"/proc/{self.namespace.pid}/mounts").read_text()
        return f" {self.directory} fuse.fuseswap " in mounts


# The copies of other tests' mounts go first: with one, an unmounted device would live on.
_NAMESPACE = """
set -e
awk '$3 == "fuse.fuseswap" { print $2 }' /proc/mounts |
    while read -r mountpoint; do umount --lazy "$mountpoint" || true; done
mkdir "$1/dev"
mount -t tmpfs -o mode=755 none "$1/dev"
mknod -m 666 "$1/dev/fuse" c 10 229
mount --bind "$1/dev/fuse" /dev/fuse
echo ready
exec sleep infinity
"""


@pytest.fixture
def user() -> Iterator[User]:
    """In a directory directly in /tmp: pytest's are closed to others."""
    home = Path(tempfile.mkdtemp(prefix="fuseswap-nobody-"))
    (home / "mnt").mkdir()
    for path in (home, home / "mnt"):
        os.chown(path, NOBODY, NOBODY)
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", _NAMESPACE]
    with Popen([*command, "sh", str(home)], stdout=PIPE) as namespace:
        assert namespace.stdout is not None
        assert namespace.stdout.readline() == b"ready\n"
        made = User(home, namespace)
        try:
            yield made
        finally:
            if made.is_mounted():
                made.run("fusermount3", "-u", "-z", made.directory)
            namespace.kill()
    shutil.rmtree(home)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_user_has_a_file(user: User, transport: str) -> None:
    options = f"size=64M,name=mine,transport={transport}"
    done = user.fuseswap("mount", "none", user.directory, "-o", options)
    assert (done.returncode, done.stderr) == (0, "")
    assert user.is_mounted()

    done = user.run(sys.executable, "-c", _EXERCISE, user.directory)
    assert done.returncode == 0, done.stderr
    status = user.fuseswap("status", "--noheadings")
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout.split()[:2] == ["mine", "running"]

    done = user.fuseswap("down", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert not user.is_mounted()
    assert not (user.home / "run" / "mine").exists()


def test_nobody_else_sees_it(user: User) -> None:
    done = user.fuseswap("mount", "none", user.directory, "-o", "size=64M,name=mine")
    assert done.returncode == 0, done.stderr
    enter = ("nsenter", f"--mount=/proc/{user.namespace.pid}/ns/mnt", "--")
    listing = run([*enter, "ls", user.directory])
    assert listing.returncode != 0
    assert "Permission denied" in listing.stderr


def test_a_user_unmounts_with_fusermount(user: User) -> None:
    done = user.fuseswap("mount", "none", user.directory, "-o", "size=64M,name=mine")
    assert done.returncode == 0, done.stderr
    assert user.run("fusermount3", "-u", user.directory).returncode == 0
    wait_until("the processes to clean up", lambda: not (user.home / "run" / "mine").exists())


def test_what_fusermount_refuses_is_a_mount_failure(user: User) -> None:
    done = user.fuseswap("mount", "none", "/usr", "-o", "size=64M,name=mine")
    assert done.returncode == 32, done
    assert len(done.stderr.splitlines()) == 1
    assert "/usr" in done.stderr
    assert not (user.home / "run" / "mine").exists()
