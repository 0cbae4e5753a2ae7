"""A disk whose writes are logged: qemu's ``blklogwrites`` below a loop device of this machine.

    ext4 - loop device - export (FUSE) - qemu-storage-daemon -+- disk
                                                              +- log

Without a guest, the devices and commands run as fast as they do here.  A guest's disk gets its
log in the same way (`power_guest.py`).
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernels import cache
from tests.kernels.guest.moments import MARKS_BYTES

_DISK_MIB = 192
FILE_SYSTEM_BYTES = (_DISK_MIB << 20) - MARKS_BYTES
_READY_S = 20.0
# Many small commits, so that many flushes have something before them.
_MKFS = ("-m", "0", "-J", "size=4", "-O", "^resize_inode", "-E", "lazy_itable_init=0")


@dataclass(frozen=True, slots=True)
class Recording:
    """Files of one: the disk before, as it is, and the log of what came between."""

    directory: Path

    @property
    def base(self) -> Path:
        """The disk before the first entry."""
        return self.directory / "base"

    @property
    def disk(self) -> Path:
        """The disk that is written to."""
        return self.directory / "disk"

    @property
    def log(self) -> Path:
        """The log."""
        return self.directory / "log"

    def make(self, content: Path) -> None:
        """A file system with what is in ``content``, room for marks behind it, an empty log."""
        cache.make_ext4(self.base, FILE_SYSTEM_BYTES >> 20, content, _MKFS)
        with open(self.base, "r+b") as file:
            file.truncate(_DISK_MIB << 20)
        shutil.copyfile(self.base, self.disk)
        self.log.write_bytes(b"")

    def blockdevs(self) -> tuple[str, ...]:
        """Words for qemu; the node is ``recorded``.  A flush is logged, not done."""
        file = "driver=file,cache.no-flush=on"
        return (
            "--blockdev", f"{file},node-name=disk,filename={self.disk}",
            "--blockdev", f"{file},node-name=log,filename={self.log}",
            "--blockdev",
            "driver=blklogwrites,node-name=recorded,file=disk,log=log,log-sector-size=512",
        )  # fmt: skip


@contextmanager
def loop_device(recording: Recording) -> Iterator[str]:
    """The path of a loop device that is recorded.  The log is whole once it is gone."""
    export = recording.directory / "export"
    export.write_bytes(b"")
    daemon = subprocess.Popen(
        (
            "setpriv",
            "--pdeathsig",
            "KILL",
            "qemu-storage-daemon",
            *recording.blockdevs(),
            "--export",
            f"type=fuse,id=export,node-name=recorded,mountpoint={export},writable=on",
        )
    )
    try:
        deadline = time.monotonic() + _READY_S
        while not export.stat().st_size:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise cache.CommandFailed("qemu-storage-daemon exports nothing")
            time.sleep(0.05)
        device = cache.run("losetup", "--find", "--show", export).strip()
        try:
            yield device
        finally:
            cache.run("losetup", "--detach", device)
    finally:
        daemon.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(_READY_S)
        daemon.kill()
        daemon.wait()
