"""Files and directories of this user alone, whatever the umask, and whatever was there before.

They lie in directories where others may write as well (``/tmp``), so another user may have been
there first.  No symbolic link is followed, and a directory of another user is not used.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux import trusted_file


def make_directory(path: Path) -> None:
    """Mode 0700, with what is missing above it; one that is there as for `check_directory`.

    Raises `HostError`, `OSError`.
    """
    missing = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    for each in reversed(missing):
        try:
            os.mkdir(each, 0o700)
        except FileExistsError:
            continue  # another command made it, or a stranger: it is looked at below
        if os.stat(each).st_mode & 0o777 != 0o700:  # of a umask that forbids us our own
            os.chmod(each, 0o700)
    check_directory(path)


def check_directory(path: Path) -> None:
    """Whether it is ours and no other can write to it; of mode 0700 from now on.

    None that is there is fine.  Raises `HostError`, `OSError`.
    """
    found, real = trusted_file.directory_at(str(path))
    if found is None:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    wrong = ""
    if not real:
        wrong = "is a symbolic link"
    elif found.st_uid != os.geteuid():
        wrong = f"belongs to user {found.st_uid}"
    elif found.st_mode & 0o022:
        wrong = f"can be written to by others (mode {stat.S_IMODE(found.st_mode):04o})"
    if wrong:
        raise HostError(
            f"{path} {wrong}: what is in there may be another's; remove it, or set "
            "FUSESWAP_RUNTIME_DIR to a directory of your own"
        )
    if found.st_mode & 0o777 != 0o700:
        os.chmod(path, 0o700)


def open_file(path: Path, flags: int) -> int:
    """As `os.open` with O_CREAT, mode 0600; follows no link.  Raises `OSError`."""
    fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.fstat(fd).st_mode & 0o777 != 0o600:
        os.fchmod(fd, 0o600)
    return fd


def replace(path: Path, text: str) -> None:
    """Replace ``path`` in one step: a reader sees it as it was or as it is.  Raises `OSError`."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)  # of a process of that number that was killed
    with open(open_file(draft, os.O_WRONLY | os.O_EXCL), "w") as file:
        file.write(text)
    draft.rename(path)
