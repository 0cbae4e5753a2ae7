"""Have the backends count what a former worker left: all that is derived from the slot table.

Counting the live objects of every segment means reading every word, 0.3 us each.  A worker
need not wait for that: loads need no counts.  It adopts the tables as they are, and serves at
once.  The clusters of the slot table are counted in the background, and one that is about to be
changed is counted first:

    attach -> serve, `Adoption.step` between requests -> all counted: segments without a live
              object are freed, cleaner and writeback begin

Until then no segment is freed, cleaned or written back: its count is not complete.

A word that cannot be right has a wrong check, or names a segment that does not exist.  It stays,
with a wrong check, and is counted: a load of that page says EIO instead of zeros.  A foreign word
whose backend is not there stays as it is: its pages say EIO.
"""

from __future__ import annotations

import logging

from fuseswap.frontswap.backend import Backend
from fuseswap.frontswap.links import Links
from fuseswap.store.slot_table import CLUSTER_SHIFT, UNCOUNTED, SlotTable
from fuseswap.store.slot_word import MODULUS, OBJECT, spoiled
from fuseswap.units import PageNumber, numbered

log = logging.getLogger(__name__)

SKIPPED_AT_ONCE = 4096  # clusters, 0.2 ms


class Adoption:
    """Counts what a former worker left, cluster by cluster."""

    def __init__(self, slots: SlotTable, links: Links) -> None:
        self._slots = slots
        self._links = links
        self._next = 0
        self._finished: list[Backend] = []  # of those in the chain

    def step(self, clusters: int) -> bool:
        """Count some more; False where all are counted (then the backends are complete).

        One step skips `SKIPPED_AT_ONCE` at most that were counted before they were changed.
        """
        used, looked = self._slots.used, 0
        for first, end in self._slots.present_runs(self._next):
            for cluster in range(first, end):
                looked += 1
                if looked > max(SKIPPED_AT_ONCE, clusters):
                    self._next = cluster
                    return True
                if used[cluster] == UNCOUNTED:
                    if not clusters:
                        self._next = cluster
                        return True
                    clusters -= 1
                    self.count(cluster)
        self._next = len(used)
        for backend in self._links.backends:
            if backend not in self._finished:
                if not backend.finish_adoption():
                    return True
                self._finished.append(backend)
        return False

    def count_area(self, first: PageNumber, count: int = 1) -> None:
        """Count the clusters of pages that are about to be changed."""
        for cluster in range(first >> CLUSTER_SHIFT, (first + count - 1 >> CLUSTER_SHIFT) + 1):
            self.count(cluster)

    def count(self, cluster: int) -> None:
        """Count one cluster, if that was not done."""
        if cluster >= len(self._slots.used) or self._slots.used[cluster] != UNCOUNTED:
            return
        corrupt = 0
        links = self._links
        objects = links.objects.backend if links.objects else None
        for page, word in numbered(self._slots.count(cluster), cluster << CLUSTER_SHIFT):
            if not word:
                continue
            if word % MODULUS:
                corrupt += 1
                continue
            owner = objects if word & OBJECT else links.owner_of(word)
            if owner is None:
                corrupt += 1
            elif not owner.adopt(page, word):
                corrupt += 1
                self._slots.words[page] = spoiled(word)  # EIO now, and whoever gets the id
        if corrupt:
            log.error("%d slot words are corrupt; their pages give EIO", corrupt)
