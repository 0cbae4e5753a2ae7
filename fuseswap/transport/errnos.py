"""The one place where fuseswap's errors become errno values."""

from __future__ import annotations

import errno
import logging

from fuseswap import errors

log = logging.getLogger(__name__)

_ERRNOS: tuple[tuple[type[errors.FuseswapError], int], ...] = (
    (errors.InvalidArgument, errno.EINVAL),
    (errors.BeyondEnd, errno.EFBIG),
    (errors.NotPermitted, errno.EPERM),
    (errors.NoSuchFile, errno.ENOENT),
    (errors.StoreRefused, errno.ENOSPC),
    (errors.CorruptData, errno.EIO),
)


def errno_of(exc: Exception) -> int:
    """errno for ``exc``; anything not raised on purpose is EIO, and logged with its traceback."""
    for kind, code in _ERRNOS:
        if isinstance(exc, kind):
            return code
    if isinstance(exc, OSError):  # of a backing file
        return errno.EIO
    log.error("unexpected error while answering a request", exc_info=exc)
    return errno.EIO
