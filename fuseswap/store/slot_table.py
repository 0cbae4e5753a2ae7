"""The slot table: one 64-bit word (``slot_word.py``) a swap page, and the only truth.

Writing a word is the commit of a store, and zeroing it that of an invalidate.

Words stand in clusters of 512, one page of the region each.  `used` counts the
words set in each cluster (2 bytes a cluster, derived, by `count`).  A cluster takes memory
from its first store to the moment its last page goes.  With a feeder (``memory_reserve.py``) the
clusters that the kernel will come to next have their memory already, and keep it.  Those are
`READY_CLUSTERS` beyond the last one that was ever used.  One without memory is not to be read,
since reading would allocate it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from fuseswap.errors import NoMemory, PoolFull
from fuseswap.store.geometry import CLUSTER_PAGES
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.region import Region
from fuseswap.store.slot_word import SEGMENT_ID_BYTE, is_corrupt, is_object_of
from fuseswap.units import COMPILED, FIRST_PAGE, PAGE_SIZE, PageNumber, SegmentId, page_range

if TYPE_CHECKING and not COMPILED:

    class ClusterShift(int):
        """The type of `CLUSTER_SHIFT`: a cluster shifted left by it is its first page."""

        def __rlshift__(self, cluster: int, /) -> PageNumber:
            """The first page of ``cluster``."""
            return PageNumber(cluster << int(self))

    CLUSTER_SHIFT: ClusterShift
else:
    CLUSTER_SHIFT: Final = 9

SWEEP_CLUSTERS = 512  # looked through at once, 0.14 ms
SWEEP_WORDS = 1024  # of them looked at one by one, 0.2 ms
UNCOUNTED: Final = 0xFFFF  # in ``used``: present, and not looked at yet (see ``adoption.py``)
READY_CLUSTERS = 256  # 512 MiB of pages: 1 MiB, made 16 at a time
_MADE_AT_ONCE = 16
_RUN = 4096  # clusters looked at in one go: 8 KiB of ``used`` are copied for that
_FULL = array("H", [512]) * _RUN
_HOLES = memoryview(bytes(PAGE_SIZE)).cast("Q")


class SlotTable:
    """Words by page number.  ``words`` and ``used`` are public to the hot path of ``chain.py``."""

    def __init__(self, region: Region, page_count: int, feeder: Feeder | None = None) -> None:
        self.page_count = page_count
        self.words = region.buffer.cast("Q")
        self._region = region
        self._feeder: Feeder = feeder or AtOnce()
        self.used = array("H", bytes(2 * -(-page_count // 512)))
        self._present = bytearray(len(self.used))
        self._present_count = 0
        # 1: a page is stored there, or about to be, or it was not counted.
        self._in_use = bytearray(len(self.used))
        self._in_use_count = 0
        self.new_words = 0  # that stores set where there was none, ever
        self._other_words = 0  # set by others, less those that went
        self.uncounted = 0  # clusters
        self._ready_end = 0  # clusters before it keep their memory
        self._wanted: set[int] = set()  # ordered by stores that wait: as many as those, at most
        self._ordering = False
        self._held: dict[int, int] = {}  # by cluster: pages on their way to it, see `hold`
        self._adopt()

    def _adopt(self) -> None:
        """Note which clusters are present; `count` them before they are changed."""
        for start, end in self._region.extents():
            first, last = start // PAGE_SIZE, min(end // PAGE_SIZE, len(self.used))
            self.used[first:last] = array("H", [UNCOUNTED]) * (last - first)
            self.uncounted += last - first
            self._note(first, last - first, present=True)
            self._in_use[first:last] = b"\1" * (last - first)
            self._in_use_count += last - first
            if not first and self._feeder.deferred:
                self._ready_end = last

    def get_ready(self, cluster: int = 0) -> None:
        """``cluster`` is used: have the memory of those behind it made, ahead of need."""
        first = self._ready_end
        if self._ordering or not self._feeder.deferred or cluster > first + READY_CLUSTERS:
            return
        end = min(cluster + READY_CLUSTERS, len(self.used))
        if end - first >= _MADE_AT_ONCE or first < end == len(self.used):
            self._ordering = True
            count = min(end - first, READY_CLUSTERS)
            done = partial(self._made_ready, first, count)
            self._feeder.populate(
                self._region, first * PAGE_SIZE, count * PAGE_SIZE, done, can_wait=True
            )

    def _made_ready(self, first: int, count: int, made: bool) -> None:
        self._ordering = False
        if made:
            self._note(first, count, present=True)
            self._ready_end = first + count
            return
        for cluster in range(first, first + count):
            if not self._present[cluster] and cluster not in self._wanted:
                self._region.punch(cluster * PAGE_SIZE, PAGE_SIZE)

    def trim(self) -> None:
        """Give back what is ready far beyond the last cluster in use: 1 MiB at a time, idle."""
        first = self._ready_end - READY_CLUSTERS
        if self._ordering or self._wanted or self._held:  # not what is made for somebody
            return
        if first >= READY_CLUSTERS and not any(self.used[first - READY_CLUSTERS : self._ready_end]):
            self._ready_end = first
            self._note(first, READY_CLUSTERS, present=False)
            self._region.punch(first * PAGE_SIZE, READY_CLUSTERS * PAGE_SIZE)

    def _made(self, cluster: int, made: bool) -> None:
        """The feeder has the memory of one cluster, or there was none."""
        self._wanted.discard(cluster)
        if made:
            self._note(cluster, 1, present=True)

    def _note(self, first: int, count: int, *, present: bool) -> None:
        """Whether so many clusters from ``first`` on have memory."""
        end = first + count
        self._present_count -= self._present.count(1, first, end)
        self._present[first:end] = (b"\1" if present else b"\0") * count
        self._present_count += count * present

    def count(self, cluster: int) -> list[int]:
        """Set ``used`` of a present cluster, and return its words; an empty one is given back."""
        first = cluster << CLUSTER_SHIFT
        words: list[int] = self.words[first : first + 512].tolist()
        self.uncounted -= self.used[cluster] == UNCOUNTED
        self.used[cluster] = stored = len(words) - words.count(0)
        self._other_words += stored
        if not stored:
            self._empty(cluster)
        return words

    def _begin_use(self, cluster: int) -> None:
        """A page is about to be stored in ``cluster``, or it is."""
        self._in_use_count += not self._in_use[cluster]
        self._in_use[cluster] = 1

    def _empty(self, cluster: int) -> None:
        """Nothing is stored in ``cluster``: its memory goes back, unless it is kept ready."""
        self._in_use_count -= self._in_use[cluster]
        self._in_use[cluster] = 0
        if cluster >= self._ready_end and cluster not in self._held:
            self._note(cluster, 1, present=False)
            at = cluster * PAGE_SIZE
            self._region.punch(at, PAGE_SIZE)  # crash point: cluster-release

    def get(self, page: PageNumber) -> int:
        """The word of ``page``; 0 is a hole."""
        return self.words[page] if self.used[page >> CLUSTER_SHIFT] else 0

    def allocate(self, page: PageNumber) -> None:
        """Have the memory of the cluster of ``page``: the first touch would be SIGBUS without.

        Raises `PoolFull` where there is none, or `NoMemory` where it is being made.
        """
        cluster = page >> CLUSTER_SHIFT
        if self._present[cluster]:
            self._begin_use(cluster)
            self.get_ready(cluster)
            return
        self._feeder.collect()
        if not self._present[cluster] and cluster not in self._wanted:
            self._wanted.add(cluster)
            done = partial(self._made, cluster)
            self._feeder.populate(self._region, cluster * PAGE_SIZE, PAGE_SIZE, done)
        if self._present[cluster]:
            self._begin_use(cluster)
            return
        if cluster in self._wanted:
            raise NoMemory("the memory for a cluster of the slot table is being made")
        raise PoolFull("no memory for a cluster of the slot table")

    def hold(self, page: PageNumber) -> None:
        """Keep the cluster of ``page``, which is there, until `let_go`: its word comes later."""
        cluster = page >> CLUSTER_SHIFT
        self._held[cluster] = self._held.get(cluster, 0) + 1

    def let_go(self, page: PageNumber) -> None:
        """Undo one `hold`: the word of ``page`` is there, or does not come."""
        cluster = page >> CLUSTER_SHIFT
        self._held[cluster] -= 1
        if not self._held[cluster]:
            del self._held[cluster]
            self.release_unused(page)

    def commit(self, page: PageNumber, word: int) -> None:
        """Set the nonzero ``word`` of ``page``: from here on the page is stored."""
        cluster = page >> CLUSTER_SHIFT
        old = self.words[page] if self.used[cluster] else 0
        if is_corrupt(old):
            self.recount(cluster)
        if not old:
            self._begin_use(cluster)
            self.used[cluster] += 1
            self._other_words += 1
        self.words[page] = word

    def clear(self, page: PageNumber) -> None:
        """Make ``page`` a hole; the last one returns its cluster."""
        cluster = page >> CLUSTER_SHIFT
        word = self.words[page] if self.used[cluster] else 0
        if not word:
            return
        if is_corrupt(word):
            self.recount(cluster)
        self.words[page] = 0  # crash point: discard-clear
        self.drop_slot(page)  # crash point: discard-retire

    def clear_area(self, first: PageNumber, end: int) -> Iterator[tuple[PageNumber, list[int]]]:
        """Make pages ``first`` to before ``end`` holes.

        Yields, by cluster, the first page of each run and their former words.
        """
        for cluster in range(first >> CLUSTER_SHIFT, -(-end // CLUSTER_PAGES)):
            if not self.used[cluster]:
                continue
            start = cluster << CLUSTER_SHIFT
            whole: list[int] = self.words[start : start + CLUSTER_PAGES].tolist()
            lower, upper = max(first - start, 0), min(end - start, len(whole))
            words = whole[lower:upper]
            left = whole.count(0) - words.count(0)
            holes = _HOLES[: upper - lower]
            self.words[start + lower : start + upper] = holes  # crash point: discard-area-clear
            stored = len(whole) - len(words) - left
            self._other_words -= self.used[cluster] - stored
            self.used[cluster] = stored
            if not self.used[cluster]:
                self._empty(cluster)
            yield PageNumber(start + lower), words

    def recount(self, cluster: int) -> None:
        """Count a corrupt word too: it may have been a hole when it was counted."""
        words = self.words[cluster << CLUSTER_SHIFT : (cluster + 1) << CLUSTER_SHIFT]
        stored = 512 - words.tolist().count(0)
        self._other_words += stored - self.used[cluster]
        self.used[cluster] = stored

    def release_unused(self, page: PageNumber) -> None:
        """Return the cluster of ``page`` where `allocate` was called for nothing."""
        cluster = page >> CLUSTER_SHIFT
        if not self.used[cluster]:
            self._empty(cluster)

    def drop_slot(self, page: PageNumber) -> None:
        """Count down a word of ``page`` that is 0 by now; the last one returns its cluster."""
        cluster = page >> CLUSTER_SHIFT
        self.used[cluster] -= 1
        self._other_words -= 1
        if not self.used[cluster]:
            self._empty(cluster)

    def clusters(
        self, first: PageNumber = FIRST_PAGE, end: int | None = None
    ) -> Iterator[tuple[PageNumber, list[int]]]:
        """Yield ``(first page, words)`` of each present cluster that meets pages first..end."""
        last = self.page_count if end is None else end
        for start, stop in self.present_runs(first >> CLUSTER_SHIFT, -(-last // 512)):
            for cluster in range(start, stop):
                if self.used[cluster]:
                    page = cluster << CLUSTER_SHIFT
                    yield page, self.words[page : min(page + 512, self.page_count)].tolist()

    def present_runs(self, first: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Clusters ``first`` to before ``end`` that have memory, as runs of at most `_RUN`.

        Quick where much is not there: 0.2 ms for the 8 million clusters of 16 TiB.
        """
        present, last = self._present, len(self._present) if end is None else end
        start = present.find(1, first, last)
        while start >= 0:
            limit = min(start + _RUN, last)
            stop = present.find(0, start, limit)
            stop = limit if stop < 0 else stop
            yield start, stop
            start = present.find(1, stop, last)

    def sweep(self, segment: SegmentId, page: PageNumber) -> tuple[list[PageNumber], PageNumber]:
        """Pages from ``page`` on whose word is an object of ``segment``, and where to go on.

        A bounded piece of the table, 0.4 ms at most; all was seen where the second is
        `page_count`.  One byte of the segment's id is looked for by itself, which is 40
        times as fast as a look at each word.
        """
        used, words, page_count = self.used, self.words, self.page_count
        found: list[int] = []
        looked = 0
        byte = bytes((segment & 0xFF,))
        cluster = page >> CLUSTER_SHIFT
        limit = min(cluster + SWEEP_CLUSTERS, len(used))
        while cluster < limit:
            if not used[cluster]:
                cluster += 1
                continue
            first = max(page, cluster << CLUSTER_SHIFT)
            while cluster < limit and used[cluster]:
                cluster += 1
            end = min(cluster << CLUSTER_SHIFT, page_count)
            low = self._region.map[8 * first + SEGMENT_ID_BYTE : 8 * end : 8]
            at = low.find(byte)
            while at >= 0:
                if looked == SWEEP_WORDS:
                    return cast("list[PageNumber]", found), PageNumber(first + at)
                looked += 1
                word = words[first + at]
                if is_object_of(word, segment) and not is_corrupt(word):
                    found.append(first + at)
                at = low.find(byte, at + 1)
        end = min(cluster << CLUSTER_SHIFT, page_count)
        return cast("list[PageNumber]", found), PageNumber(end)

    def words_in(self, segment: SegmentId, pages: Iterable[PageNumber]) -> list[int]:
        """Words of those ``pages`` that are a sound object of ``segment``."""
        count = self.page_count
        words = (self.get(page) for page in pages if page < count)
        return [word for word in words if is_object_of(word, segment) and not is_corrupt(word)]

    def next_stored(self, page: PageNumber) -> PageNumber | None:
        """First stored page at or after ``page``, or None."""
        for start, words in self.clusters(page):
            for index in range(max(0, page - start), len(words)):
                if words[index]:
                    return PageNumber(start + index)
        return None

    def next_hole(self, page: PageNumber) -> PageNumber:
        """First page at or after ``page`` that is a hole (``page_count`` where none is)."""
        cluster = page >> CLUSTER_SHIFT
        while cluster < len(self.used):
            if self.used[cluster : cluster + _RUN] == _FULL:  # full, so many at once
                cluster += _RUN
                continue
            first = cluster << CLUSTER_SHIFT
            if self.used[cluster] != 512:
                for candidate in page_range(max(page, first), min(first + 512, self.page_count)):
                    if not self.get(candidate):
                        return candidate
            cluster += 1
        return PageNumber(self.page_count)

    @property
    def stored_pages(self) -> int:
        """Pages that are not holes, in the clusters that were counted."""
        return self.new_words + self._other_words

    @property
    def allocated_bytes(self) -> int:
        """Memory the present clusters take, in bytes."""
        return self._present_count * PAGE_SIZE

    @property
    def ready_bytes(self) -> int:
        """What of it is taken by clusters in which nothing is stored."""
        return (self._present_count - self._in_use_count) * PAGE_SIZE

    def used_clusters(self, first: int = 0) -> int:
        """Clusters from ``first`` on in which a page is stored, or which were not counted."""
        return self._in_use.count(1, first)

    def close(self) -> None:
        """Release the view of the region."""
        self.words.release()
