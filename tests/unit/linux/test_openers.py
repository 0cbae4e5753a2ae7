"""Who has a block device open: by the device, not by its path; and it takes a bounded time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseswap.linux import mount

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are needed")
_OPENS = "import os, sys; os.open(sys.argv[1], int(sys.argv[2])); print(flush=True); input()"
_MANY = (
    "import os, resource, sys; most = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_NOFILE, (most + 9, most + 9)); "
    "[os.dup(0) for _ in range(most)]; print(flush=True); input()"
)


@contextmanager
def waiting(*command: str, user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said a line, and waits."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, user=user) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"\n"
        yield running
        running.kill()


@pytest.fixture(scope="module")
def device() -> str:
    """A block device that can be opened."""
    for path in sorted(Path("/dev").iterdir()):
        if stat.S_ISBLK(path.lstat().st_mode):
            try:
                os.close(os.open(path, os.O_RDONLY))
            except OSError:
                continue
            return str(path)
    pytest.skip("there is no block device here")


def test_who_has_it_open_is_named(device: str) -> None:
    with waiting(sys.executable, "-c", _OPENS, device, str(os.O_RDONLY)) as opener:
        command = Path(f"/proc/{opener.pid}/comm").read_text().strip()
        assert mount.openers_of(device) == [f"{command} ({opener.pid})"]
    assert mount.openers_of(device) == []


def test_a_file_of_that_path_elsewhere_is_another(device: str) -> None:
    """Any user may have one, in a mount namespace of his own."""
    script = 'mount -t tmpfs none /dev && exec 3<>"$1" && echo; read word'
    words = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", device)
    with waiting(*words, user=65534) as stranger:
        path = f"/proc/{stranger.pid}/fd/3"
        assert os.readlink(path) == device
        assert mount.openers_of(device) == []


def test_who_has_only_looked_it_up_does_not_use_it(device: str) -> None:
    """Any user may, since it needs no right to the device itself."""
    looks = str(os.O_PATH)
    with waiting(sys.executable, "-c", _OPENS, device, looks, user=65534) as looking:
        links = [os.readlink(fd) for fd in Path(f"/proc/{looking.pid}/fd").iterdir()]
        assert device in links
        assert mount.openers_of(device) == []


def test_many_descriptors_take_a_bounded_time(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock on which 2000 take a second; root's process is found all the same."""
    looked_at: list[str] = []
    readlink, began = os.readlink, time.monotonic()

    def noted(path: str) -> str:
        looked_at.append(path)
        return readlink(path)

    with (
        waiting(sys.executable, "-c", _MANY, "3000", user=65534),
        waiting(sys.executable, "-c", _MANY, "3000"),
        waiting(sys.executable, "-c", _OPENS, device, str(os.O_RDONLY)) as opener,
        monkeypatch.context() as patch,
    ):
        patch.setattr(os, "readlink", noted)
        patch.setattr(time, "monotonic", lambda: began + len(looked_at) / 2000)
        found = mount.openers_of(device)
    assert [name.rpartition(" ")[2] for name in found] == [f"({opener.pid})"]
    assert len(looked_at) <= 2001
