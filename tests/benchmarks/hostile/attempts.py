"""One attempt of a user who may not, and how its outcome is told.

An outcome is a word: the name of the error, or ``done``.  An attempt that has to be refused and is
``done`` is a breach.  So is one that was only told that its target is not there: it tried nothing.
Others may succeed, since it is every user's right.  Such an attempt looks by itself whether what
it got is more than it may get, and raises `Breach`.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")

DONE = "done"
BREACH = "BREACH"
# The user had nothing to try it on.  Where no attempt got further, nothing was refused either.
ABSENT = frozenset({"ENOENT", "ESRCH", "ENOSYS", "ENODEV", "ENXIO"})


class Breach(Exception):
    """More came back than a user may have."""


class Targets(NamedTuple):
    """What there is to attack; all of it was there when root looked."""

    name: str  # of the device
    runtime_dir: str
    mounts: Sequence[str]  # the mountpoint, and a way there through open directories
    directories: Sequence[str]  # below each mount
    texts: Sequence[str]
    swapfiles: Sequence[str]
    private: Sequence[str]  # lock files, log, configuration
    known: Sequence[str]  # as private, in directories where everybody may look: backing file
    sockets: Sequence[str]
    pids: Sequence[int]
    devices: Sequence[str]  # block devices and device nodes
    attributes: Sequence[str]  # of sysfs, proc and cgroups, that root may write
    links: Mapping[str, str]  # to plant: path, and where it leads
    home: str = "/tmp"  # a directory of the user's own

    def to_json(self) -> str:
        """What `parse` reads."""
        return json.dumps(self._asdict())

    @classmethod
    def parse(cls, text: str) -> Targets:
        """Of the command line."""
        return cls(**json.loads(text))


class Attempt(NamedTuple):
    """``act`` raises `OSError` where it is refused; ``may``: success is no breach.

    It is made in each ``every``-th round, of those that cost processor time.  ``of_machine``: what
    it takes is the machine's, whatever swap there is.
    """

    name: str
    act: Callable[[Targets], object]
    may: bool = False
    every: int = 1
    of_machine: bool = False


def outcome(attempt: Attempt, targets: Targets) -> str:
    """Make it.  One that ends in another way than by `OSError` or `Breach` is a mistake of ours."""
    try:
        attempt.act(targets)
    except Breach as exc:
        return f"{BREACH}: {exc}"
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, str(exc))
    return DONE if attempt.may else f"{BREACH}: {DONE}"


def each(things: Sequence[_T], act: Callable[[_T], object]) -> None:
    """Try all.  Raises `Breach` where one succeeds; else the last refusal, or ENOENT for none."""
    last = OSError(errno.ENOENT, "nothing to try")
    for one in things:
        try:
            act(one)
        except OSError as exc:
            is_absent = errno.errorcode.get(exc.errno or 0) in ABSENT
            if not is_absent or last.errno == errno.ENOENT:
                last = exc
        else:
            raise Breach(str(one))
    raise last
