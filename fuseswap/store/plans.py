"""Plans: what becomes of the objects of one segment.

    plan          payload             goes to                              at the end
    Clean         as it is            survivors, or recompressed           pinned
    Evict         smaller, in haste   evicted; loaded objects: survivors   pinned
    CleanOnTier   as it is            evicted                              pinned
    Rewrite       as given            recompressed; loaded: survivors      pinned
    Extract       as given            recompressed, or evicted             the others stay
    EvictSome     smaller, in haste   evicted                              the others stay

A plan is made for one life of one segment and never changes.  A `Copier` asks it about each
object and does the work.  The owners are in the directory, which is in memory or in the bytes a
tier had stored.  A segment with shared objects has owners that only a sweep finds.

*Pinned*: an object could not be found after all owners were looked at, so a word is corrupt and
the segment can never be emptied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableSequence, Set
from dataclasses import dataclass, replace
from typing import ClassVar

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.recompressor import Packed
from fuseswap.store.append_head import AppendHead
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_word import is_loaded, length_of, object_key, offset_of
from fuseswap.units import PageNumber, SegmentId, SegmentRef, page_array

STEP_OBJECTS = 64  # about 120 us
STEP_PACKED = 12  # of them, where each is compressed on the way: about 200 us

# The head that an object goes to, and its new payload; None: the stored bytes.
Move = tuple[AppendHead, Packed | None]


@dataclass(frozen=True, slots=True, eq=False)
class Plan(ABC):
    """What a `Copier` asks.  ``stored``: the 1 MiB of the segment where it is on a tier."""

    log: SegmentLog
    ref: SegmentRef
    stored: bytes

    # So many new payloads end a step.
    packed_at_once: ClassVar[int] = STEP_OBJECTS

    @abstractmethod
    def move(self, word: int, urgent: bool) -> Move | None:
        """Where the object of ``word`` goes, and as what; None: it stays.

        ``urgent``: a store waits, so nothing is to be compressed.
        """

    def read(self, word: int) -> bytes:
        """Check and payload of the object of ``word`` as they are now."""
        if not self.stored:
            return self.log.stored(word)
        at = offset_of(word)
        return self.stored[at : at + CHECK_BYTES + length_of(word)]

    def owners(self) -> MutableSequence[PageNumber]:
        """Pages to look at first, newest first; none where a sweep finds them all."""
        if self.log.table.is_marked(self.ref.id, Mark.SHARED):
            return page_array()
        return self.log.owners(self.ref.id, self.stored)

    @property
    def sweeps(self) -> bool:
        """Whether the slot table is looked through where the directory did not suffice."""
        return True

    def is_current(self) -> bool:
        """Whether the segment is the one of the plan, and where it was then."""
        table = self.log.table
        in_memory = table.bases[self.ref.id] >= 0
        return table.is_current(self.ref) and in_memory != bool(self.stored)

    def joined(self) -> Plan | None:
        """The same with one open segment, where there is no frame for two; None: wait for one."""
        return None

    def finish(self) -> bool:
        """All owners were looked at, and something is alive.  Whether that is as it should be."""
        self.log.table.pin(self.ref.id)
        return False

    def give_up(self) -> None:  # noqa: B027 - most have nothing to undo
        """The segment is there, and is left half done."""


@dataclass(frozen=True, slots=True, eq=False)
class Clean(Plan):
    """Empty a sparse segment in memory.  Recompressed objects stay among themselves."""

    loaded: Move
    others: Move

    @classmethod
    def of(cls, log: SegmentLog, segment: SegmentId) -> Clean:
        """The plan for ``segment`` as it is now."""
        done = log.table.is_recompressed(segment)
        survivors = log.heads[Stream.SURVIVORS]
        others = log.heads[Stream.RECOMPRESSED] if done else survivors
        return cls(log, log.table.ref(segment), b"", (survivors, None), (others, None))

    def move(self, word: int, urgent: bool) -> Move | None:
        """Loaded objects go to the survivors."""
        return self.loaded if is_loaded(word) else self.others

    def joined(self) -> Plan | None:
        """All to the head with more room: the last frame takes a whole victim, not two halves."""
        warm, cold = self.loaded[0], self.others[0]
        if warm is cold:
            return None
        one = max(warm, cold, key=lambda head: head.bound - head.tail)
        return replace(self, loaded=(one, None), others=(one, None))


@dataclass(frozen=True, slots=True, eq=False)
class Evict(Plan):
    """Gather the cold objects of a segment in memory, to leave for a tier together.

    Loaded objects get a second chance where ``spares`` says so.  ``pack`` makes one object
    smaller, or returns None.  The segment was taken out of line, where others still stand.
    """

    spared: Move
    head: AppendHead
    spares: bool
    pack: Callable[[int], Packed | None] | None

    packed_at_once: ClassVar[int] = STEP_PACKED

    @classmethod
    def of(
        cls,
        log: SegmentLog,
        segment: SegmentId,
        pack: Callable[[int], Packed | None] | None,
        *,
        spares: bool = True,
    ) -> Evict:
        """The plan for ``segment`` as it is now."""
        spared = (log.heads[Stream.SURVIVORS], None)
        evicted = log.heads[Stream.EVICTED]
        return cls(log, log.table.ref(segment), b"", spared, evicted, spares, pack)

    def move(self, word: int, urgent: bool) -> Move | None:
        """Smaller where that is possible, and no store waits."""
        if self.spares and is_loaded(word):
            return self.spared
        return self.head, None if urgent or self.pack is None else self.pack(word)

    def give_up(self) -> None:
        """It stands first in line again."""
        self.log.eviction_queue.add(self.ref.id, first=True)


@dataclass(frozen=True, slots=True, eq=False)
class CleanOnTier(Plan):
    """Empty a sparse segment on a tier; its objects leave again."""

    way: Move

    @classmethod
    def of(cls, log: SegmentLog, segment: SegmentId, stored: bytes) -> CleanOnTier:
        """The plan for ``segment``, of which the tier had ``stored``."""
        return cls(log, log.table.ref(segment), stored, (log.heads[Stream.EVICTED], None))

    def move(self, word: int, urgent: bool) -> Move | None:
        """All take the same way."""
        return self.way


@dataclass(frozen=True, slots=True, eq=False)
class Rewrite(Plan):
    """Empty a segment in memory, with smaller payloads where there are some, by `object_key`.

    Where ``spares`` says so, a loaded object without one goes to the survivors.
    """

    packed: Mapping[int, Packed]
    spared: Move
    head: AppendHead
    spares: bool

    @classmethod
    def of(
        cls,
        log: SegmentLog,
        segment: SegmentId,
        packed: Mapping[int, Packed],
        *,
        spares: bool = True,
    ) -> Rewrite:
        """The plan for ``segment`` as it is now."""
        spared = (log.heads[Stream.SURVIVORS], None)
        head = log.heads[Stream.RECOMPRESSED]
        return cls(log, log.table.ref(segment), b"", packed, spared, head, spares)

    def move(self, word: int, urgent: bool) -> Move | None:
        """The payload it was given, if any."""
        packed = self.packed.get(object_key(word))
        if packed is None and self.spares and is_loaded(word):
            return self.spared
        return self.head, packed


@dataclass(frozen=True, slots=True, eq=False)
class Extract(Plan):
    """Move the objects that have another payload, by `object_key`, and leave the others there."""

    packed: Mapping[int, Packed]
    head: AppendHead

    @classmethod
    def of(
        cls, log: SegmentLog, segment: SegmentId, packed: Mapping[int, Packed], stored: bytes = b""
    ) -> Extract:
        """The plan for ``segment``, on a tier where that had ``stored``: then they leave again."""
        head = log.heads[Stream.EVICTED if stored else Stream.RECOMPRESSED]
        return cls(log, log.table.ref(segment), stored, packed, head)

    def move(self, word: int, urgent: bool) -> Move | None:
        """An object without another payload stays."""
        packed = self.packed.get(object_key(word))
        return None if packed is None else (self.head, packed)

    @property
    def sweeps(self) -> bool:
        """Only where the directory does not know all."""
        return self.log.table.is_marked(self.ref.id, Mark.SHARED)

    def finish(self) -> bool:
        """The others stay."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class EvictSome(Plan):
    """Gather some objects of a segment in memory for a tier, by `object_key`.  The others stay.

    Loaded or not, since they were asked for by name.  ``pack``: as of `Evict`.
    """

    wanted: Set[int]
    head: AppendHead
    pack: Callable[[int], Packed | None] | None

    packed_at_once: ClassVar[int] = STEP_PACKED

    @classmethod
    def of(
        cls,
        log: SegmentLog,
        segment: SegmentId,
        wanted: Set[int],
        pack: Callable[[int], Packed | None] | None,
    ) -> EvictSome:
        """The plan for ``segment`` as it is now."""
        return cls(log, log.table.ref(segment), b"", wanted, log.heads[Stream.EVICTED], pack)

    def move(self, word: int, urgent: bool) -> Move | None:
        """As `Evict` where it is wanted."""
        if object_key(word) not in self.wanted:
            return None
        return self.head, None if urgent or self.pack is None else self.pack(word)

    @property
    def sweeps(self) -> bool:
        """As `Extract`."""
        return self.log.table.is_marked(self.ref.id, Mark.SHARED)

    def finish(self) -> bool:
        """The others stay."""
        return True
