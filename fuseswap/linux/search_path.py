"""Where programs are looked for, and with which variables they run, on behalf of root.

PATH is the caller's, and may have been prepared by another.  Root takes from it the directories
that no other user may change, and of these the programs that none may change (`trusted_file`).
Those of the system come after them.  An ordinary user gets what he asked for.

Programs of root get no other variable but the language: ``BLKID_FILE`` and the like name files.
Imported by the supervisor: nothing that is large.
"""

from __future__ import annotations

import os

from fuseswap.errors import HostError
from fuseswap.linux import trusted_file

SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
_LANGUAGE = ("LANG", "LC_ALL")


def directories() -> str:
    """PATH, of this process or for one of root's."""
    found = os.environ.get("PATH", "")
    if os.geteuid() != 0:
        return found
    ours = [each for each in found.split(":") if is_ours(each)]
    return ":".join(dict.fromkeys([*ours, *SYSTEM.split(":")]))


def is_ours(path: str) -> bool:
    """Whether no user but root and this one can change or exchange what is at ``path``."""
    try:
        return os.path.isabs(path) and bool(trusted_file.check(path))
    except (HostError, OSError):
        return False


def variables() -> dict[str, str] | None:
    """Environment of a program; None: that of this process."""
    if os.geteuid() != 0:
        return None
    kept = {name: os.environ[name] for name in _LANGUAGE if name in os.environ}
    return {"PATH": directories(), **kept}
