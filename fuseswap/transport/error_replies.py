"""Answers that are an errno, counted: requests that failed, and those that are not well-formed."""

from __future__ import annotations

import errno

from fuseswap.filesystem.device import TransportCounters
from fuseswap.transport import fuse_protocol
from fuseswap.transport.errnos import errno_of

_out = fuse_protocol.OUT_HEADER.pack


def failed(counters: TransportCounters, unique: int, exc: Exception) -> bytes:
    """The answer to request ``unique``, which ended with ``exc``."""
    if (code := errno_of(exc)) != errno.ENOENT:
        counters.failed_requests += 1
    return _out(16, -code, unique)


def malformed(counters: TransportCounters, message: memoryview, unique: int) -> bytes | None:
    """EINVAL, where there is a request to answer; FORGET and its like get no answer.

    ``message`` is what was read; it may be short.
    """
    counters.malformed_requests += 1
    if (
        len(message) < fuse_protocol.IN_HEADER_BYTES
        or int.from_bytes(message[4:8], "little") in fuse_protocol.SILENT
    ):
        return None
    return _out(16, -errno.EINVAL, unique)
