"""A connection of coredis that ends where a server says more than was asked for.

coredis keeps what has come of an answer until its end is there, however long it says that it is.
The longest answer that is asked for is a segment, or a piece of the registry.
"""

from __future__ import annotations

from coredis.connection import TCPConnection
from coredis.exceptions import ConnectionError as LinkError

from fuseswap.units import MIB

LONGEST_ANSWER_BYTES = 2 * MIB


class BoundedConnection(TCPConnection):
    """Its requests fail, as those of one that is lost, with an answer that is too long."""

    _waiting_bytes = 0  # that have come since the last whole answer

    def _data_received(self, data: bytes) -> None:
        unanswered = len(self._requests)
        super()._data_received(data)
        self._waiting_bytes += len(data)
        if len(self._requests) < unanswered:
            self._waiting_bytes = 0
        if self._waiting_bytes > LONGEST_ANSWER_BYTES:
            raise LinkError(f"its answer is longer than {LONGEST_ANSWER_BYTES >> 20} MiB")
