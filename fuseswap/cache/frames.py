"""Frames: the 1 MiB places of the arena in which segments live while in memory.

A frame is *in use* (a segment lives there), *warm* (free, its memory kept) or
*cold* (free, its memory returned).  The first touch of a fresh tmpfs page costs
3.2 us and a rewrite 0.15 us, so freed frames stay warm for the next segment:
up to `WARM_LIMIT` while there is work, fewer when `trim` is called while idle;
and `reserve` makes some warm before they are needed.  In use and warm frames
together never exceed the pool limit.
"""

from __future__ import annotations

from array import array

from fuseswap.cache.region import Region
from fuseswap.cache.state import SEGMENT_BYTES, SEGMENT_SHIFT

WARM_LIMIT = 16
# Kept back from stores, so that the cleaner can always copy a segment's live objects out;
# with a tier it fills two segments at once, those to keep and those to write back.
CLEANER_RESERVE = 1
CLEANER_RESERVE_WITH_TIER = 2
NO_FRAME = -1
_GRANTS = 2  # workers that die so, one after the other; a limit may also be lowered by a lot


class FramePool:
    """Frames of one arena, by number.  All derived: rebuilt from the segment table."""

    def __init__(self, arena: Region, frame_count: int) -> None:
        self._arena = arena
        self.frame_count = frame_count
        self.limit = frame_count
        self.in_use = 0
        self.ready = 0  # so many free frames are kept whatever is stored: fixed memory
        self.most_used = 0  # since somebody noted it (``footprint.py``)
        self.exhausted = False
        self.cleaner_reserve = CLEANER_RESERVE
        self._granted = 0  # to the cleaner, above the limit
        self._warm = array("I")
        self._cold = array("I")
        self._next = 0  # frames from here on were never touched

    def adopt(self, used_frames: set[int]) -> None:
        """Take over an arena in which just ``used_frames`` hold segments; return the rest."""
        self.in_use = len(used_frames)
        self._next = max(used_frames, default=-1) + 1
        end = 0  # of the used frame before; only between them is looked for memory
        for used in (*sorted(used_frames), self._arena.size_bytes >> SEGMENT_SHIFT):
            self._punch_all(end, used)
            end = used + 1
        for frame in range(self._next - 1, -1, -1):
            if frame not in used_frames:
                self._cold.append(frame)
        self.most_used = self.used

    def _punch_all(self, first: int, end: int) -> None:
        """Return what the frames from ``first`` to before ``end`` hold."""
        while first < end:
            at = self._arena.first_data(first << SEGMENT_SHIFT, end << SEGMENT_SHIFT)
            if at is None:
                return
            self._punch(at >> SEGMENT_SHIFT)
            first = (at >> SEGMENT_SHIFT) + 1

    def take(self, *, cleaning: bool = False) -> int:
        """A free frame, warm before cold; `NO_FRAME` where the limit is reached.

        The last `cleaner_reserve` frames are only for ``cleaning``.
        """
        most = self.limit + self._granted if cleaning else self.limit - self.cleaner_reserve
        if self.in_use >= most:
            self.exhausted = True
            return NO_FRAME
        frame = self._warm.pop() if self._warm else self._populate()
        self.in_use += frame != NO_FRAME
        self.most_used = max(self.most_used, self.used)
        self.exhausted = not self.available
        return frame

    def reserve(self, count: int) -> None:
        """Have at least ``count`` warm frames ready, so that a store need not wait for memory."""
        while len(self._warm) < count and self.held < self.limit:
            frame = self._populate()
            if frame == NO_FRAME:
                return
            self._warm.append(frame)
            self.most_used = max(self.most_used, self.used)

    def give_back(self, frame: int) -> None:
        """``frame`` holds no segment any more."""
        self.in_use -= 1
        if self.in_use < self.limit:
            self._granted = 0
        if len(self._warm) < WARM_LIMIT and self.held < self.limit:
            self._warm.append(frame)
        else:
            self._punch(frame)
            self._cold.append(frame)
        self.exhausted = not self.available

    def grant(self) -> None:
        """A former worker died with the cleaner's last frame half filled: there is to be another.

        Above the limit, until one below it is free: without it nothing can ever be cleaned.
        """
        over = self.in_use - self.limit
        if 0 <= over < _GRANTS:
            self._granted = over + 1

    def trim(self, keep: int) -> None:
        """Return warm frames to the system until at most ``keep`` are left."""
        while len(self._warm) > keep:
            frame = self._warm.pop()
            self._punch(frame)
            self._cold.append(frame)

    def set_limit(self, limit: int) -> None:
        """Hold at most ``limit`` frames from now on; those in use above it stay."""
        self.limit = min(limit, self.frame_count)
        self.trim(max(0, self.limit - self.in_use))
        self.exhausted = not self.available

    @property
    def held(self) -> int:
        """Frames whose memory is held: in use or warm."""
        return self.in_use + len(self._warm)

    @property
    def used(self) -> int:
        """Frames whose memory is held because of what is stored: all but those `ready`."""
        return self.held - min(self.ready, len(self._warm))

    @property
    def has_spare(self) -> bool:
        """Whether the cleaner can take a frame."""
        free = len(self._warm) + len(self._cold) + self.frame_count - self._next
        return self.in_use < self.limit + self._granted and free > 0

    def ensure_spare(self) -> bool:
        """Whether the cleaner can take a frame, and the system has the memory for it."""
        if self.has_spare:
            self.reserve(1)
        return bool(self._warm)

    @property
    def warm(self) -> int:
        """Free frames whose memory is kept."""
        return len(self._warm)

    @property
    def available(self) -> int:
        """Frames a store can still take; `exhausted` says whether there are none."""
        free = len(self._warm) + len(self._cold) + self.frame_count - self._next
        return max(0, min(self.limit - self.in_use, free) - self.cleaner_reserve)

    def _populate(self) -> int:
        """A cold or never touched frame with its memory in place; `NO_FRAME` where none is left."""
        if not self._cold:
            if self._next == self.frame_count:
                return NO_FRAME
            self._cold.append(self._next)
            self._next += 1
        frame = self._cold[-1]
        try:
            self._arena.populate(frame << SEGMENT_SHIFT, SEGMENT_BYTES)
        except OSError:  # no memory left; what was allocated on the way goes back
            self._punch(frame)
            return NO_FRAME
        return self._cold.pop()

    def _punch(self, frame: int) -> None:
        self._arena.punch(frame << SEGMENT_SHIFT, SEGMENT_BYTES)
