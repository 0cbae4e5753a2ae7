"""Block devices that dm-crypt decrypts: blocks that were never written read as noise.

The key of a new mapping is another than before, so its zeros are noise, and look like data.  Data
that a person wants has a signature: a file system, a partition table, swap, LVM, RAID.  ``blkid``
knows these, and does not find one in noise.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux import search_path
from fuseswap.linux.command import which

SYSFS = Path("/sys/dev/block")
_UUID = "CRYPT-"  # of LUKS1, LUKS2, PLAIN, TCRYPT, ...
_NOTHING_FOUND = 2
_TIMEOUT_S = 60.0


def is_crypt(device: int, sysfs: Path | None = None) -> bool:
    """Whether the block device of number ``device`` is a mapping of dm-crypt."""
    where = (sysfs or SYSFS) / f"{os.major(device)}:{os.minor(device)}" / "dm" / "uuid"
    try:
        return where.read_text().startswith(_UUID)
    except (OSError, UnicodeDecodeError):
        return False


def has_signature(fd: int) -> bool:
    """Whether ``blkid`` knows what is on the device; raises `HostError` where it can't say."""
    path = f"/proc/{os.getpid()}/fd/{fd}"
    blkid = which("blkid")
    if blkid is None:
        raise HostError("'blkid' is missing; is util-linux installed?")
    try:
        found = subprocess.run(
            (blkid, "--probe", path),
            env=search_path.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise HostError("'blkid --probe' failed; is util-linux installed?") from exc
    return found.returncode != _NOTHING_FOUND


def holds_noise(fd: int) -> bool:
    """Whether what can be read of ``fd`` is that of a dm-crypt device without a signature."""
    found = os.fstat(fd)
    return stat.S_ISBLK(found.st_mode) and is_crypt(found.st_rdev) and not has_signature(fd)
