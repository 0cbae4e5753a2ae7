"""Frames: the 1 MiB places of the arena in which segments live while in memory.

A frame is in one of four states:

    in use     a segment lives there
    warm       free, its memory kept
    ordered    the feeder makes its memory (``memory_reserve.py``)
    cold       free, its memory returned

The first touch of a fresh tmpfs page costs 3.2 us, a rewrite 0.15 us.  So freed frames stay warm
for the next segment: up to `WARM_LIMIT` while there is work, fewer when `trim` is called while
idle.

`ready` warm frames are the reserve: what the kernel may write while the feeder makes more.
It is kept whatever is stored, refilled with each frame that is taken, and it survives the
worker.  No store waits in the page allocator.  Where the reserve is down to what the cleaner
needs, the pool `is_short`, and stores wait for the feeder, for a bounded time.  Where others
have little left stores leave half of it ready, `KEPT_READY` at most.  That can be given to them.
And no frame is made: the pool `is_spent`, as if at its limit.
In use, ordered and warm frames together never exceed the pool limit.
"""

from __future__ import annotations

from array import array
from functools import partial

from fuseswap.store.memory_reserve import KEPT_READY, AtOnce, Feeder
from fuseswap.store.region import Region
from fuseswap.units import SEGMENT_BYTES, SEGMENT_SHIFT

WARM_LIMIT = 16
# Kept back from stores, so that the cleaner can always copy a segment's live objects out;
# with a tier it fills two segments at once, those to keep and those to write back; with more
# tiers a segment passes through memory on its way between two of them.
CLEANER_RESERVE = 1
CLEANER_RESERVE_WITH_TIER = 2
CLEANER_RESERVE_WITH_TIERS = 3
NO_FRAME = -1
_ADOPTED_SHARE = 2
_GRANTS = 2  # workers that die so, one after the other; a limit may also be lowered by a lot
_MAPPED_AT_ONCE = 16  # frames of a former worker, in one order


class FramePool:
    """Frames of one arena, by number.  All derived: rebuilt from the segment table."""

    def __init__(
        self,
        arena: Region,
        frame_count: int,
        feeder: Feeder | None = None,
        ready: int = 0,
        cleaner_reserve: int = CLEANER_RESERVE,
    ) -> None:
        """``ready``: so many free frames are kept whatever is stored: fixed memory.

        The last ``cleaner_reserve`` frames are kept from stores.
        """
        self._arena = arena
        self._feeder: Feeder = feeder or AtOnce()
        self.frame_count = frame_count
        self.limit = frame_count
        self.in_use = 0
        self.ready = ready
        self.most_used = 0  # since somebody noted it (``memory_usage.py``)
        self.exhausted = False  # no store can take a frame, for whichever reason
        self.cleaner_reserve = cleaner_reserve
        self._granted = 0  # to the cleaner, above the limit
        self._warm = array("I")
        self._cold = array("I")
        self._ordered = 0
        self._unmapped = array("I")  # in use, of a former worker, and not in our page table yet
        self._mapping = 0
        self._next = 0  # frames from here on were never touched
        self.given_back = 0  # ready ones, to a machine that stood still
        self.made = 0  # by the feeder

    def adopt(self, used_frames: set[int]) -> None:
        """Take over an arena in which just ``used_frames`` hold segments.

        Of the others some are the reserve already; the rest is returned.
        """
        self.in_use = len(used_frames)
        self._next = max(used_frames, default=-1) + 1
        found: list[int] = []
        end = 0  # of the used frame before; only between them is looked for memory
        for used in (*sorted(used_frames), self._arena.size_bytes >> SEGMENT_SHIFT):
            self._adopt_between(end, used, found)
            end = used + 1
        self._next = max(self._next, max(found, default=-1) + 1)
        kept = set(found)
        for frame in range(self._next - 1, -1, -1):
            if frame not in used_frames and frame not in kept:
                self._cold.append(frame)
        self._warm.extend(found)
        if self._feeder.deferred:
            self._unmapped.extend(used_frames)
        self.most_used = self.used
        self._settle()

    def _adopt_between(self, first: int, end: int, found: list[int]) -> None:
        """Of the memory of frames from ``first`` to before ``end`` keep some: they are ``found``.

        Not all of `ready`: what else this worker needs, page tables and the like, comes from
        what is returned.
        """
        while first < end:
            at = self._arena.first_data(first << SEGMENT_SHIFT, end << SEGMENT_SHIFT)
            if at is None:
                return
            frame = at >> SEGMENT_SHIFT
            if len(found) < self.ready // _ADOPTED_SHARE and self._has_memory(frame):
                found.append(frame)
            else:
                self._punch(frame)
            first = frame + 1

    def _has_memory(self, frame: int) -> bool:
        """Map ``frame``, most of whose memory is there."""
        try:
            self._arena.populate(frame << SEGMENT_SHIFT, SEGMENT_BYTES)
        except OSError:
            return False
        return True

    def map_some(self) -> None:
        """Have the frames of a former worker mapped, a few at a time.

        Else each of their pages is a fault of the serving thread when it is first read.
        """
        for _ in range(min(len(self._unmapped), _MAPPED_AT_ONCE - self._mapping)):
            frame = self._unmapped.pop()
            self._mapping += 1
            done = partial(self._mapped, frame)
            self._feeder.populate(*self._place(frame), done, can_wait=True)

    @property
    def unmapped(self) -> int:
        """Frames of a former worker that are still to be mapped."""
        return len(self._unmapped) + self._mapping

    def _mapped(self, frame: int, made: bool) -> None:
        """A frame that was in use is mapped; where it was freed meanwhile it has memory again."""
        self._mapping -= 1
        if frame in self._cold:
            self._punch(frame)
        elif not made:
            self._unmapped.append(frame)

    def take(self, *, cleaning: bool = False) -> int:
        """A free frame, warm before cold; `NO_FRAME` where the limit is reached, or no memory.

        The last `cleaner_reserve` frames are only for ``cleaning``.
        """
        most = self.limit + self._granted if cleaning else self.limit - self.cleaner_reserve
        if self.in_use >= most:
            self.exhausted = True
            return NO_FRAME
        if len(self._warm) <= self.cleaner_reserve:
            self._refill()
        if not self._warm or (self.is_short and not cleaning):
            self._settle()
            return NO_FRAME
        frame = self._warm.pop()
        self.in_use += 1
        self.most_used = max(self.most_used, self.used)
        if self._feeder.deferred:
            self.reserve(self.ready)
        self._settle()
        return frame

    def _refill(self) -> None:
        """Take over what the feeder has made, and order what the reserve lacks."""
        self._feeder.collect()
        if self._feeder.deferred:
            self.reserve(self.ready)
        elif not self._warm:
            self.reserve(1)
        self._settle()

    def reserve(self, count: int) -> None:
        """Have at least ``count`` warm frames, or on order, within the limit.

        The one below the limit that only the cleaner may take is among them.
        """
        while len(self._warm) + self._ordered < count and self.held < self.limit + self._granted:
            before = len(self._warm)
            if not self._order() or not (self._feeder.deferred or len(self._warm) > before):
                return

    def give_back(self, frame: int) -> None:
        """``frame`` holds no segment any more."""
        self.in_use -= 1
        if self.in_use < self.limit:
            self._granted = 0
        most = self.kept_for_poor + 1 if self._feeder.is_poor else max(WARM_LIMIT, self.ready)
        if len(self._warm) < most and self.held < self.limit:
            self._warm.append(frame)
        else:
            self._punch(frame)
            self._cold.append(frame)
        self._settle()

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
            self._cool(self._warm.pop())
        self._settle()

    def give_to_others(self, keep: int) -> bool:
        """Return one frame of the reserve, so that a process that waits for memory can go on.

        False where only ``keep`` are left.
        """
        if len(self._warm) <= keep:
            return False
        self._cool(self._warm.pop())
        self._settle()
        self.given_back += 1
        return True

    def _cool(self, frame: int) -> None:
        self._punch(frame)
        self._cold.append(frame)

    def set_limit(self, limit: int) -> None:
        """Hold at most ``limit`` frames from now on; those in use above it stay."""
        self.limit = min(limit, self.frame_count)
        self.trim(max(0, self.limit - self.in_use - self._ordered))
        if self._feeder.deferred:
            self.reserve(self.ready)
        self._settle()

    def set_cleaner_reserve(self, count: int) -> None:
        """Keep the last ``count`` frames from stores from now on."""
        self.cleaner_reserve = count
        self._settle()

    def set_ready(self, count: int) -> None:
        """Keep ``count`` frames ready from now on."""
        self.ready = count
        self.trim(count)
        self._refill()

    @property
    def held(self) -> int:
        """Frames whose memory is held: in use, warm, or being made."""
        return self.in_use + len(self._warm) + self._ordered

    @property
    def is_short(self) -> bool:
        """Whether stores can't have a frame though the limit allows it: its memory is not there."""
        if not self._feeder.deferred or self.allowed <= self.cleaner_reserve:
            return False
        kept = self.kept_for_poor if self._feeder.is_poor else self.cleaner_reserve
        return len(self._warm) <= kept

    @property
    def kept_for_poor(self) -> int:
        """Ready frames that stores leave while others have little."""
        return max(self.cleaner_reserve, self.kept_ready)

    @property
    def kept_ready(self) -> int:
        """Half the reserve, or less: it is refilled up to here whatever that costs others.

        More than the cleaner's, or stores and feeder would wait for each other.
        """
        return min(KEPT_READY, max(self.ready // 2, self.cleaner_reserve + 1))

    @property
    def is_spent(self) -> bool:
        """Whether that is so because others keep the little they have: it is not worth a wait."""
        return self._feeder.is_spent and self.is_short

    @property
    def is_dear(self) -> bool:
        """Whether the machine has so little memory that those who allocate wait."""
        return self._feeder.is_tight

    @property
    def used(self) -> int:
        """Frames whose memory is held because of what is stored: all but those `ready`."""
        return self.held - min(self.ready, len(self._warm) + self._ordered)

    @property
    def has_spare(self) -> bool:
        """Whether the cleaner can take a frame."""
        return self.in_use < self.limit + self._granted and self._free > 0

    def ensure_spare(self) -> bool:
        """Whether the cleaner can take a frame, and the system has the memory for it."""
        if self.has_spare:
            self._feeder.collect()
            self.reserve(1)
        return bool(self._warm)

    @property
    def warm(self) -> int:
        """Free frames whose memory is kept."""
        return len(self._warm)

    @property
    def _free(self) -> int:
        """Frames that are not in use, wherever their memory is."""
        return len(self._warm) + self._ordered + len(self._cold) + self.frame_count - self._next

    @property
    def allowed(self) -> int:
        """Frames the limit still allows, the cleaner's with them."""
        return min(self.limit - self.in_use, self._free)

    @property
    def available(self) -> int:
        """Frames a store can still take, were there memory; `exhausted` says whether it can."""
        return max(0, self.allowed - self.cleaner_reserve)

    def _settle(self) -> None:
        self.exhausted = not self.available or self.is_short

    def _place(self, frame: int) -> tuple[Region, int, int]:
        return self._arena, frame << SEGMENT_SHIFT, SEGMENT_BYTES

    def _order(self) -> bool:
        """Have the memory of a cold or never touched frame made; False where none is left."""
        if not self._cold:
            if self._next == self.frame_count:
                return False
            self._cold.append(self._next)
            self._next += 1
        frame = self._cold.pop()
        self._ordered += 1
        self._feeder.populate(*self._place(frame), partial(self._made, frame))
        return True

    def _made(self, frame: int, made: bool) -> None:
        """The memory of an ordered frame is there, or was not to be had."""
        self._ordered -= 1
        if made and self.held < self.limit + self._granted:
            self._warm.append(frame)
            self.made += 1
            self.most_used = max(self.most_used, self.used)
        else:  # what was allocated on the way goes back
            self._cool(frame)
        self._settle()

    def _punch(self, frame: int) -> None:
        self._arena.punch(frame << SEGMENT_SHIFT, SEGMENT_BYTES)
