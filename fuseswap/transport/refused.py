"""A reply that the kernel did not take.

Its caller was killed (ENOENT), or the file system is unmounted (ENODEV).  Where there was no memory
it is tried again at once.  Any other is counted and logged: its caller waits on.
"""

from __future__ import annotations

import errno
import logging
import os

from fuseswap.filesystem.device import TransportCounters

log = logging.getLogger(__name__)

_TRIES = 3
_AGAIN = (errno.ENOMEM, errno.EAGAIN)


def note_refused(exc: OSError, fd: int, reply: bytes, counters: TransportCounters) -> None:
    """``reply`` was written to ``fd``, which raised ``exc``.  Raises ENODEV."""
    failure = exc
    for _ in range(_TRIES):
        if failure.errno not in _AGAIN:
            break
        try:
            os.write(fd, reply)
        except OSError as again:
            failure = again
        else:
            return
    if failure.errno == errno.ENODEV:
        raise failure
    if failure.errno != errno.ENOENT:
        counters.refused_replies += 1
        log.error("the kernel refused a reply: %s", failure)
