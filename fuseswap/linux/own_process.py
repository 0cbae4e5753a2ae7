"""Whether another process could be one of ours: a command line alone says nothing.

Any user may have a program that is root's for a while, as ``su`` is, wait with words of his choice.
He may be root in a container, too.  So all of this is looked at:

    four user ids   each is ours; ``su`` has its caller's as the real one
    namespaces      of users and process numbers; not of mounts: a service may have one of its own
    root directory  ours; that of a container is another, whatever it shares
    program         an interpreter; ``sudo`` and ``mount`` have our user ids

What may not be looked at does not count.  Root without CAP_SYS_PTRACE, in a container, is not
shown the last three of a supervisor.
"""

from __future__ import annotations

import os

_INTERPRETER = "python"


def is_own(pid: int) -> bool:
    """Whether process ``pid`` has user, place and program of a process of ours; not if it ended."""
    users, depth = _users_and_depth(pid)
    if users != {os.geteuid()} or depth != _users_and_depth("self")[1]:
        return False
    links = ("ns/user", "ns/pid", "root")
    return all(_is_the_same(pid, link) for link in links) and _is_interpreter(pid)


def _users_and_depth(pid: int | str) -> tuple[set[int], int]:
    """Its real, effective, saved and file system user id; how deep its numbers are nested."""
    users: set[int] = set()
    depth = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Uid:"):
                    users = {int(number) for number in line.split()[1:]}
                elif line.startswith(b"NSpid:"):
                    depth = len(line.split()) - 1
                    break
    except OSError:
        pass
    return users, depth


def _is_the_same(pid: int, link: str) -> bool:
    """Whether it leads where ours does."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/{link}"), os.stat(f"/proc/self/{link}"))
    except PermissionError:
        return True
    except OSError:
        return False


def _is_interpreter(pid: int) -> bool:
    """Also one of another version, or which an upgrade has replaced since."""
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        ours = os.path.basename(os.readlink("/proc/self/exe"))
    except PermissionError:
        return True
    except OSError:
        return False
    return name.startswith(_INTERPRETER) or name == ours
