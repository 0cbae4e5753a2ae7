"""Where the next object of a stream goes: its open segment, if there is one."""

from __future__ import annotations

from typing import Final, final

from fuseswap.store.segment_entry import Stream
from fuseswap.units import NO_SEGMENT, SEGMENT_BYTES

_NO_ROOM_BYTES: Final = SEGMENT_BYTES // 16


@final
class AppendHead:
    """The open segment of one stream; ``segment`` is 0 while there is none."""

    __slots__ = ("_closed_bytes", "base", "bound", "segment", "stream", "tail")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._closed_bytes = 0
        self.segment = NO_SEGMENT
        self.close()

    @property
    def appended_bytes(self) -> int:
        """All that was ever appended, owners and checks with it."""
        return self._closed_bytes + (SEGMENT_BYTES - self.bound + self.tail if self.segment else 0)

    @property
    def is_nearly_full(self) -> bool:
        """Whether little is lost by sealing it: less than 64 KiB of room."""
        return self.segment != 0 and self.bound - self.tail < _NO_ROOM_BYTES

    def close(self) -> None:
        """Have no open segment; the next append opens one."""
        self._closed_bytes = self.appended_bytes
        self.segment = NO_SEGMENT
        self.base = 0
        self.tail = 0
        self.bound = 0
