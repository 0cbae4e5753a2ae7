"""What is made ahead of need, so that a store asks the kernel for nothing.

The feeder makes it (``memory_reserve.py``): frames, clusters of the slot table, tables of segments,
dictionaries and contents.  `keep_ready` says what stores will need next.
"""

from __future__ import annotations

from typing import Protocol

from fuseswap.store.dictionary_area import Dictionaries
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable


class HasReady(Protocol):
    """What makes memory ahead of need."""

    @property
    def ready_bytes(self) -> int:
        """So much of it."""


class TablesAhead:
    """Of one store, but for ``dedup``, which makes its own and says how much that is."""

    def __init__(
        self,
        slots: SlotTable,
        segment_log: SegmentLog,
        dictionaries: Dictionaries,
        index: HasReady,
    ) -> None:
        """``index``: of contents."""
        self._slots = slots
        self._log = segment_log
        self._dictionaries = dictionaries
        self._index = index

    def keep_ready(self) -> None:
        """Have the feeder make what stores will need next."""
        frames = self._log.frames
        frames.reserve(frames.ready)
        frames.map_some()
        self._slots.get_ready()
        self._dictionaries.get_ready()

    def ready_bytes(self) -> int:
        """Memory of the tables that were made, of no frame."""
        tables = self._slots.ready_bytes + self._log.table.ready_bytes + self._index.ready_bytes
        return tables + self._dictionaries.ready_bytes
