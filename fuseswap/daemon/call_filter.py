"""Whether the next worker has the filter of system calls (``linux/confine.py``).

A worker may need a call that it may not make.  That would end one after the other, until the device
is ``degraded`` and its pages can't be had.  So after two in a row that ended by SIGSYS the next has
no filter.  Safe pages go before a confined worker.

    deaths   who serves then              the standby that is made meanwhile
    1        the standby, which has it    has none: it serves after a second death, which may find
                                          no memory to make another
    2        the standby, which has none  has none, until `try_again`: ``fuseswap restart``

Where the second one ends in another way the standby without it serves all the same, and those
after it have a filter again.
"""

from __future__ import annotations

import mmap
import signal

from fuseswap.linux import refused_call

REFUSED_CALL_AT = 560  # in the header (see store/superblock.py)
_ENOUGH = 2


class CallFilter:
    """Of one device; changed by the supervisor's main thread, asked by that of the standby too."""

    def __init__(self, header: mmap.mmap, *, off: bool = False) -> None:
        """``off``: it was, with the supervisor before."""
        self._header = header
        self._deaths = _ENOUGH if off else 0
        self.was_left_off = off  # for a death, since `try_again`
        self.call: int | None = None  # number of the last one, where it is known

    def worker_ended(self, code: int) -> None:
        """The one that served, or that was to, with this exit code.

        Of one that was adopted the code is not known, and the note tells.
        """
        call = refused_call.taken(self._header, REFUSED_CALL_AT)
        if code == -signal.SIGSYS or call is not None:
            self._deaths += 1
            self.was_left_off = True
            self.call = call
        elif self._deaths < _ENOUGH:
            self._deaths = 0

    def try_again(self) -> None:
        """From now on workers have it."""
        self._deaths = 0
        self.was_left_off = False

    @property
    def for_worker(self) -> bool:
        """Whether one that is to serve at once has it."""
        return self._deaths < _ENOUGH

    @property
    def for_standby(self) -> bool:
        """Whether one that is to serve later has it."""
        return not self._deaths
