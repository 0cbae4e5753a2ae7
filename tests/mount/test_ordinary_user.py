"""An ordinary user mounts through fusermount3: the file only, nobody else's to see."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fuseswap.host import mount
from tests.devices import TRANSPORTS, fuseswap_command, run, wait_until

NOBODY = 65534

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


def as_nobody(home: Path, *command: str) -> CompletedProcess[str]:
    """Run a command as nobody, who may read this source wherever it lies, and no more."""
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    environment = {**os.environ, "FUSESWAP_RUNTIME_DIR": str(home / "run"), "HOME": str(home)}
    return run([*drop, *read, *command], env=environment, cwd="/")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of nobody's own, directly in /tmp: pytest's are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="fuseswap-nobody-"))
    (made / "mnt").mkdir()
    for path in (made, made / "mnt"):
        os.chown(path, NOBODY, NOBODY)
    yield made
    run(["umount", "--lazy", str(made / "mnt")])
    shutil.rmtree(made)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_user_has_a_file(home: Path, transport: str) -> None:
    directory = str(home / "mnt")
    options = f"size=64M,name=mine,transport={transport}"
    done = as_nobody(home, *fuseswap_command("mount", "none", directory, "-o", options))
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.is_mounted(directory)

    done = as_nobody(home, sys.executable, "-c", _EXERCISE, directory)
    assert done.returncode == 0, done.stderr
    with pytest.raises(PermissionError):
        os.listdir(directory)

    status = as_nobody(home, *fuseswap_command("status", "--noheadings"))
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout.split()[:2] == ["mine", "running"]

    done = as_nobody(home, *fuseswap_command("down", "mine"))
    assert (done.returncode, done.stderr) == (0, "")
    assert not mount.is_mounted(directory)
    assert not (home / "run" / "mine").exists()


def test_a_user_unmounts_with_fusermount(home: Path) -> None:
    directory = str(home / "mnt")
    command = fuseswap_command("mount", "none", directory, "-o", "size=64M,name=mine")
    assert as_nobody(home, *command).returncode == 0
    assert as_nobody(home, "fusermount3", "-u", directory).returncode == 0
    wait_until("the processes to clean up", lambda: not (home / "run" / "mine").exists())


def test_what_fusermount_refuses_is_a_mount_failure(home: Path) -> None:
    done = as_nobody(home, *fuseswap_command("mount", "none", "/usr", "-o", "size=64M,name=mine"))
    assert done.returncode == 32, done
    assert len(done.stderr.splitlines()) == 1
    assert "/usr" in done.stderr
