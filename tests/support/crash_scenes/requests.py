"""What a worker can be doing when it dies: one scene for each kind of request and of work.

Each is a function that prepares a fresh worker and returns its `Scene`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.codecs.registry import CodecRegistry
from fuseswap.errors import StoreRefused
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_entry import Stream
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import page_families, pages, recompressed_devices
from tests.support.crashes import Act, Scene, SharedPlaces, SharedTier
from tests.support.fake_tier import FakeTier
from tests.support.foreign_codec import Deflate
from tests.support.memory_stores import set_patience
from tests.support.tiered_devices import Tiered, dense, extent_of

SCENES: dict[str, Callable[[Tiered], Scene]] = {}
TIERLESS: set[str] = set()
IN_PLACE: set[str] = set()
TWO_TIERS: set[str] = set()


def scene(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    SCENES[make.__name__] = make
    return make


def tierless(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    TIERLESS.add(make.__name__)
    return scene(make)


def in_place(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    IN_PLACE.add(make.__name__)
    return scene(make)


def two_tiers(make: Callable[[Tiered], Scene]) -> Callable[[Tiered], Scene]:
    TWO_TIERS.add(make.__name__)
    return scene(make)


def some_pages(worker: Tiered) -> None:
    """Ten of each kind, in one cluster."""
    for page in range(10):
        worker.store(page, pages.compressible(page))
        worker.store(10 + page, pages.filled(1 + page))
        worker.store(20 + page, pages.incompressible(page))


def fill(worker: Tiered) -> int:
    """Until a store would wait or is refused; which."""

    async def fill() -> int:
        return worker.fill()

    return trio.run(fill, clock=MockClock())


def change(
    worker: Tiered, offset: int, data: bytes, *, holes: bool = False, refused: bool = False
) -> Scene:
    """A write of ``data`` at ``offset``."""

    async def write(worker: Tiered) -> None:
        try:
            await worker.slowpath.write(offset, memoryview(data))
        except StoreRefused:
            assert refused
        else:
            assert not refused

    after = dict(worker.expected)
    for page in range(offset // PAGE_SIZE, -(-(offset + len(data)) // PAGE_SIZE)):
        old = bytearray(after.get(page, pages.ZERO))
        start, end = max(offset, page * PAGE_SIZE), min(offset + len(data), (page + 1) * PAGE_SIZE)
        piece = data[start - offset : end - offset]
        old[start % PAGE_SIZE : start % PAGE_SIZE + len(piece)] = piece
        after[page] = bytes(old)
        if refused or (len(piece) < PAGE_SIZE and after[page] == pages.ZERO):
            del after[page]
    return Scene(worker, write, after, holes)


def punch(worker: Tiered, offset: int, size: int) -> Scene:
    async def discard(worker: Tiered) -> None:
        await worker.slowpath.punch(offset, size)

    after = dict(worker.expected)
    for page in list(after):
        start, end = page * PAGE_SIZE, (page + 1) * PAGE_SIZE
        first, last = max(start, offset), min(end, offset + size)
        if first < last:
            old = after.pop(page)
            left = old[: first - start] + bytes(last - first) + old[last - start :]
            if any(left):
                after[page] = left
    return Scene(worker, discard, after)


def work(worker: Tiered, act: Act) -> Scene:
    """Something nobody asked for, and nobody may notice."""
    return Scene(worker, act, dict(worker.expected))


# -- stores ----------------------------------------------------------------------------


@scene
def first_store_of_all(worker: Tiered) -> Scene:
    return change(worker, 0, pages.compressible(0))


@scene
def store_in_hole(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 50 * PAGE_SIZE, pages.compressible(50))


@scene
def store_in_new_cluster(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 600 * PAGE_SIZE, pages.compressible(600))


@scene
def store_of_many(worker: Tiered) -> Scene:
    some_pages(worker)
    data = [pages.compressible(100), pages.incompressible(101), pages.filled(102)]
    data += [pages.ZERO, pages.filled(pages.FITS_NOT), pages.compressible(103)]
    return change(worker, 7 * PAGE_SIZE, b"".join(data), holes=True)


@scene
def overwrite(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 0, pages.compressible(90), holes=True)


@scene
def overwrite_with_fill(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 0, pages.filled(90), holes=True)


@scene
def overwrite_of_fill(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 10 * PAGE_SIZE, pages.compressible(90), holes=True)


@scene
def overwrite_of_incompressible(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 20 * PAGE_SIZE, pages.incompressible(90), holes=True)


@scene
def overwrite_of_last_in_segment(worker: Tiered) -> Scene:
    worker.store(0)
    worker.log.seal(worker.log.heads[Stream.STORE])
    worker.store(1)
    return change(worker, 0, dense(90), holes=True)


@scene
def overwrite_in_next_segment(worker: Tiered) -> Scene:
    page = 0
    head = worker.log.heads[Stream.STORE]
    while not head.segment or head.bound - head.tail > 3900:  # another does not fit
        worker.store(page)
        page += 1
    return change(worker, 0, dense(9090), holes=True)


@tierless
def refused_overwrite(worker: Tiered) -> Scene:
    fill(worker)
    return change(worker, 5 * PAGE_SIZE, dense(5000), refused=True)


@tierless
def refused_store_in_new_cluster(worker: Tiered) -> Scene:
    fill(worker)
    return change(worker, 3000 * PAGE_SIZE, dense(5000), refused=True)


@tierless
def overwrite_whose_old_version_has_the_last_room(worker: Tiered) -> Scene:
    worker.store(4000)
    for head in worker.log.heads:
        worker.log.seal(head)
    fill(worker)
    set_patience(worker.device.frontswap, None)
    return change(worker, 4000 * PAGE_SIZE, dense(9999), holes=True)


# -- duplicates ------------------------------------------------------------------------


@scene
def store_of_duplicates(worker: Tiered) -> Scene:
    """One of them of a page stored in the same request."""
    some_pages(worker)
    data = [pages.compressible(3), pages.incompressible(4), pages.compressible(90)]
    return change(worker, 600 * PAGE_SIZE, b"".join([*data, data[2]]))


@scene
def overwrite_with_a_duplicate(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 0, pages.compressible(3), holes=True)


@scene
def partial_with_the_same(worker: Tiered) -> Scene:
    some_pages(worker)
    worker.store(50, pages.compressible(3))
    return change(worker, 50 * PAGE_SIZE, pages.compressible(3)[:100])


@scene
def overwrite_of_a_duplicate(worker: Tiered) -> Scene:
    """Of the page that had the object first."""
    some_pages(worker)
    worker.store(50, pages.compressible(3))
    return change(worker, 3 * PAGE_SIZE, pages.compressible(90), holes=True)


@scene
def partial_to_a_duplicate(worker: Tiered) -> Scene:
    some_pages(worker)
    worker.store(50, b"x" * 100 + pages.compressible(3)[100:])
    return change(worker, 50 * PAGE_SIZE, pages.compressible(3)[:100])


@scene
def partial_of_a_duplicate(worker: Tiered) -> Scene:
    some_pages(worker)
    worker.store(50, pages.compressible(3))
    return change(worker, 3 * PAGE_SIZE + 100, b"part")


@scene
def discard_of_duplicates(worker: Tiered) -> Scene:
    some_pages(worker)
    for page in range(40, 50):
        worker.store(page, pages.compressible(3))
    return punch(worker, 0, 45 * PAGE_SIZE)


# -- partial writes --------------------------------------------------------------------


@scene
def partial(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 100, b"part")


@scene
def partial_of_fill(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 15 * PAGE_SIZE + 100, b"part")


@scene
def partial_of_hole(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 50 * PAGE_SIZE + 100, b"part")


@scene
def partial_to_zeros(worker: Tiered) -> Scene:
    """The page is the last of its segment."""
    worker.store(0, pages.compressible(1)[:2000] + bytes(2096))
    worker.log.seal(worker.log.heads[Stream.STORE])
    worker.store(1)
    return change(worker, 0, bytes(2000))


@scene
def partial_of_last_in_segment(worker: Tiered) -> Scene:
    worker.store(0)
    worker.log.seal(worker.log.heads[Stream.STORE])
    worker.store(1)
    return change(worker, 100, b"part")


@scene
def partial_around_a_page(worker: Tiered) -> Scene:
    some_pages(worker)
    return change(worker, 100, pages.compressible(90) * 2, holes=True)


@tierless
def refused_partial(worker: Tiered) -> Scene:
    fill(worker)
    return change(worker, 5 * PAGE_SIZE + 3900, bytes(range(196)), refused=True)


@scene
def partial_of_page_on_tier(worker: Tiered) -> Scene:
    trio.run(worker.move_out)
    return change(worker, 100, b"part")


# -- loads and discards ----------------------------------------------------------------


@scene
def load(worker: Tiered) -> Scene:
    some_pages(worker)

    async def read(worker: Tiered) -> None:
        await worker.slowpath.read(0, 30 * PAGE_SIZE)

    return work(worker, read)


@scene
def discard(worker: Tiered) -> Scene:
    some_pages(worker)
    return punch(worker, 5 * PAGE_SIZE, 20 * PAGE_SIZE)


@scene
def discard_of_clusters(worker: Tiered) -> Scene:
    """Of three, two are released."""
    for page in (0, 510, 511, 512, 800, 1023, 1024, 1100, 1600):
        worker.store(page, pages.compressible(page))
    return punch(worker, 510 * PAGE_SIZE, 1000 * PAGE_SIZE)


@scene
def discard_with_edges(worker: Tiered) -> Scene:
    some_pages(worker)
    return punch(worker, 100, 3 * PAGE_SIZE)


@scene
def discard_of_last_in_segment(worker: Tiered) -> Scene:
    worker.store(0)
    worker.log.seal(worker.log.heads[Stream.STORE])
    worker.store(1)
    return punch(worker, 0, PAGE_SIZE)


@scene
def discard_of_all(worker: Tiered) -> Scene:
    """The open segment goes too."""
    some_pages(worker)
    return punch(worker, 0, 4096 * PAGE_SIZE)


@scene
def discard_of_extent(worker: Tiered) -> Scene:
    on_tier = trio.run(worker.move_out)
    for page in on_tier[1:]:
        worker.discard(page)
    return punch(worker, on_tier[0] * PAGE_SIZE, PAGE_SIZE)


# -- writeback -------------------------------------------------------------------------


async def write_back(worker: Tiered) -> None:
    """All of it, as far as it goes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.writeback.run)
        worker.writeback.ask(ReclaimRequest.parse("all"))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@scene
def writeback(worker: Tiered) -> Scene:
    for page in range(300):
        worker.store(page)
    return work(worker, write_back)


@scene
def recompression(worker: Tiered) -> Scene:
    for page in range(300):
        worker.store(page, pages.hexadecimal(page))
    return work(worker, write_back)


@scene
def writeback_of_loaded(worker: Tiered) -> Scene:
    """What was loaded is copied forward, the rest gathered."""
    for page in range(280):
        worker.store(page)
    for page in range(0, 280, 4):
        worker.cache.load(page)
    return work(worker, write_back)


@scene
def writeback_that_fails(worker: Tiered) -> Scene:
    for page in range(300):
        worker.store(page)

    async def fail(worker: Tiered) -> None:
        tier_of(worker).fail_writes = True
        await write_back(worker)
        tier_of(worker).fail_writes = False

    return work(worker, fail)


@scene
def writeback_of_what_dies(worker: Tiered) -> Scene:
    """Every page of a segment is discarded while it is written."""
    for page in range(300):
        worker.store(page)
    doomed = worker.pages_of(worker.segment_of(0))

    async def act(worker: Tiered) -> None:
        tier = tier_of(worker)
        tier.hold_writes = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.writeback.run)
            worker.writeback.ask(ReclaimRequest.parse("all"))
            await wait_all_tasks_blocked()
            worker.device.swapfile.punch(0, len(doomed) * PAGE_SIZE)
            tier.hold_writes = False
            for operation in list(tier.writes):
                operation.finish()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    after = {page: data for page, data in worker.expected.items() if page not in doomed}
    return Scene(worker, act, after)


@scene
def store_that_waits(worker: Tiered) -> Scene:
    """The pool is full: a segment leaves, then the page is stored."""
    page = fill(worker)

    async def act(worker: Tiered) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.writeback.run)
            await worker.slowpath.write(page * PAGE_SIZE, memoryview(dense(page)))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    return Scene(worker, act, {**worker.expected, page: dense(page)})


# -- recompression ---------------------------------------------------------------------


async def recompress(worker: Tiered) -> None:
    await recompressed_devices.recompress(worker.device.recompression)


def some_cold(worker: Tiered, count: int = 40) -> None:
    """Pages that a dictionary makes smaller, others that zstd does, and what nothing does."""
    for page in range(0, count, 2):
        worker.store(page, pages.related(page))
        worker.store(page + 1, pages.hexadecimal(page + 1))
    worker.store(count, pages.incompressible(count))
    worker.store(count + 1, pages.filled(pages.FITS_NOT))


@scene
def recompression_of_cold(worker: Tiered) -> Scene:
    some_cold(worker)
    return work(worker, recompress)


@scene
def recompression_with_a_dictionary(worker: Tiered) -> Scene:
    some_cold(worker)

    async def act(worker: Tiered) -> None:
        worker.cache.dictionaries.add(recompressed_devices.DICTIONARY)
        await recompress(worker)

    return work(worker, act)


@scene
def recompression_that_gains_nothing(worker: Tiered) -> Scene:
    for page in range(20):
        worker.store(page)
    return work(worker, recompress)


@tierless
def recompression_in_a_full_pool(worker: Tiered) -> Scene:
    """The last frame is taken, and comes back."""
    worker.cache.pool_limit_bytes = 3 * MIB
    set_patience(worker.device.frontswap, None)
    for page in range(1200):
        try:
            worker.store(page, pages.hexadecimal(page))
        except StoreRefused:
            break
    for page in range(20, 1200):
        if page % 50:
            worker.discard(page)
    return work(worker, recompress)


@scene
def dictionary_that_goes(worker: Tiered) -> Scene:
    """Of two, the old one is not needed."""
    dictionaries = worker.cache.dictionaries
    dictionaries.add(b"no page is like this" * 100)
    dictionaries.add(recompressed_devices.DICTIONARY)
    some_cold(worker)
    return work(worker, recompress)


async def turn_over(worker: Tiered) -> None:
    """An old dictionary goes, and another takes its place and gets pages."""
    worker.device.recompression.retirement._next_look = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.recompression.run)
        await recompressed_devices.pass_time(2)
        nursery.cancel_scope.cancel()
    for page in range(900, 906):
        worker.store(page, page_families.page_of(3, page))
    (current, *others) = sorted(worker.cache.dictionaries.all, key=lambda one: -one.number)
    assert current.number == 1
    if not others:
        added = worker.cache.dictionaries.add(page_families.dictionary_for(3))
        assert added is not None
        assert added.number == 0
    await recompress(worker)


def with_an_old_dictionary(worker: Tiered, *, on_tier: bool) -> Scene:
    """A few pages need it, on the tier or not, and no more would need the one in use."""

    async def prepare(worker: Tiered) -> None:
        old = pages.incompressible(1) * 8 + page_families.dictionary_for(0)
        await page_families.compress_with(worker, old, 0, range(6))
        if on_tier:
            await write_back(worker)
        await page_families.compress_with(
            worker, page_families.dictionary_for(0, 1), 1, range(100, 106)
        )

    trio.run(prepare, worker, clock=MockClock())
    assert worker.on_tier() == (list(range(6)) if on_tier else [])
    after = dict(worker.expected)
    after.update((page, page_families.page_of(3, page)) for page in range(900, 906))
    return Scene(worker, turn_over, after)


@tierless
def retirement_of_dictionaries(worker: Tiered) -> Scene:
    return with_an_old_dictionary(worker, on_tier=False)


@scene
def retirement_of_a_dictionary_on_the_tier(worker: Tiered) -> Scene:
    return with_an_old_dictionary(worker, on_tier=True)


async def register(worker: Tiered) -> None:
    state = worker.device.state
    assert CodecRegistry.of(state, [Deflate()]).missing == {}


@tierless
def registration_of_a_codec(worker: Tiered) -> Scene:
    some_pages(worker)
    return work(worker, register)


@scene
def writeback_of_pages_with_dictionaries(worker: Tiered) -> Scene:
    """Two of them, and all pages in one segment."""

    async def prepare(worker: Tiered) -> None:
        for family in range(2):
            pages = range(10 * family, 10 * family + 6)
            data = page_families.dictionary_for(family)
            await page_families.compress_with(worker, data, family, pages)

    trio.run(prepare, worker, clock=MockClock())
    return work(worker, write_back)


# -- in place --------------------------------------------------------------------------


def refusing(made: Scene) -> Scene:
    """The same, and a dense page goes to its place."""

    async def act(worker: Tiered) -> None:
        worker.cache.encoder.max_compression_ratio = 50
        await made.act(worker)

    return Scene(made.worker, act, made.after, made.holes)


def evicted(worker: Tiered) -> None:
    """Two runs of pages, of which nothing is left in memory."""
    for page in (*range(20), 500, 501):
        worker.store(page)
    trio.run(write_back, worker, clock=MockClock())
    assert worker.in_place() == sorted(worker.expected)


@in_place
def eviction_in_place(worker: Tiered) -> Scene:
    for page in (*range(20), 500, 501):
        worker.store(page)
    worker.cache.load(3)
    return work(worker, write_back)


@in_place
def eviction_in_place_that_fails(worker: Tiered) -> Scene:
    for page in range(30):  # few enough to be looked at in one turn: tasks take turns in any order
        worker.store(page)

    async def fail(worker: Tiered) -> None:
        assert isinstance(worker.tier, SharedPlaces)
        worker.tier.fail_writes = True
        await write_back(worker)
        worker.tier.fail_writes = False

    return work(worker, fail)


@in_place
def eviction_of_what_has_a_copy(worker: Tiered) -> Scene:
    worker.store(50)

    async def act(worker: Tiered) -> None:
        assert worker.device.place is not None
        worker.device.place.writethrough = True
        for page in range(5):
            await worker.slowpath.write(page * PAGE_SIZE, memoryview(dense(page)))
        await write_back(worker)

    after = {**worker.expected, **{page: dense(page) for page in range(5)}}
    return Scene(worker, act, after)


@in_place
def store_to_a_place_in_new_cluster(worker: Tiered) -> Scene:
    some_pages(worker)
    return refusing(change(worker, 600 * PAGE_SIZE, dense(600)))


@in_place
def overwrite_that_goes_to_its_place(worker: Tiered) -> Scene:
    some_pages(worker)
    return refusing(change(worker, 0, dense(90), holes=True))


@in_place
def overwrite_of_page_in_its_place(worker: Tiered) -> Scene:
    evicted(worker)
    return refusing(change(worker, 0, dense(90) + dense(91), holes=True))


@in_place
def store_of_page_in_its_place(worker: Tiered) -> Scene:
    evicted(worker)
    return change(worker, 0, dense(90), holes=True)


@in_place
def partial_of_page_in_its_place(worker: Tiered) -> Scene:
    evicted(worker)
    return refusing(change(worker, 100, b"part"))


@in_place
def discard_of_pages_in_their_places(worker: Tiered) -> Scene:
    evicted(worker)
    return punch(worker, 18 * PAGE_SIZE, 600 * PAGE_SIZE)


# -- cleaner ---------------------------------------------------------------------------


async def clean(worker: Tiered) -> None:
    while worker.writeback.cleaner.step():
        pass


@tierless
def cleaning(worker: Tiered) -> Scene:
    for page in range(600):
        worker.store(page)
    for page in range(600):
        if page % 5:
            worker.discard(page)
    return work(worker, clean)


@tierless
def cleaning_of_duplicates(worker: Tiered) -> Scene:
    for page in range(600):
        worker.store(page, dense(page // 2))
    for page in range(600):
        if page % 10 not in (0, 3, 6, 7):  # first, second, both of a pair
            worker.discard(page)
    return work(worker, clean)


async def sweep(worker: Tiered) -> None:
    merger = worker.device.merging.merger
    while merger.busy:
        merger.step()


def unmerged(worker: Tiered) -> None:
    """Pairs that nobody looked for, far apart, of which some compress better than their twins."""
    worker.cache.dedup.set_switch("off")
    for page in range(20):
        worker.store(page, pages.compressible(page))
    worker.cache.encoder.set_compressor("zstd:9")
    for page in range(10):
        worker.store(page + 10 * (page % 2), pages.compressible(page + 10 * (page % 2)))
    for page in range(20):
        worker.store(600 + page, pages.compressible(page))
    worker.cache.dedup.set_switch("on")


@scene
def merging(worker: Tiered) -> Scene:
    unmerged(worker)
    return work(worker, sweep)


@tierless
def merging_of_the_last_in_a_segment(worker: Tiered) -> Scene:
    unmerged(worker)
    for head in worker.log.heads:
        worker.log.seal(head)
    worker.cache.dedup.set_switch("off")
    worker.store(700, pages.compressible(3))
    worker.cache.dedup.set_switch("on")
    return work(worker, sweep)


@scene
def writeback_of_duplicates(worker: Tiered) -> Scene:
    for page in range(600):
        worker.store(page, dense(page // 2))
    for page in range(0, 600, 8):
        worker.cache.load(page)
    return work(worker, write_back)


@in_place
def eviction_of_duplicates_in_place(worker: Tiered) -> Scene:
    for page in range(40):
        worker.store(page, dense(page // 4))
    return work(worker, write_back)


@scene
def cleaning_of_extent(worker: Tiered) -> Scene:
    on_tier = trio.run(worker.move_out)
    for page in on_tier:
        if page % 6:
            worker.discard(page)

    async def act(worker: Tiered) -> None:
        cleaner = worker.writeback.cleaner
        segment = cleaner.victims.choose_on_tier()
        if segment:
            extent = extent_of(worker.log, segment)
            cleaner.begin_on_tier(segment, bytes(tier_of(worker).extents[extent]))
            await clean(worker)

    return work(worker, act)


# -- relocation ------------------------------------------------------------------------


def on_first_tier(worker: Tiered) -> Scene:
    """Segments on the first tier, which `relocate_all` moves, and room for them in memory."""
    trio.run(worker.move_out)
    for segment in worker.log.eviction_queue.all_sealed():
        for page in worker.pages_of(segment):
            worker.discard(page)
    for page in worker.on_tier()[::3]:
        worker.discard(page)
    return work(worker, relocate_all)


async def relocate_all(worker: Tiered) -> None:
    """From the first tier to the second, or into memory where there is none."""
    assert worker.device.relocation is not None
    assert worker.device.tiers is not None
    table = worker.log.table
    entries = list(worker.device.tiers)
    for segment in table.segments():
        found = table.on_tier(segment)
        if found is None or found[1].tier != 0:
            continue
        to = entries[1].take() if len(entries) > 1 else None
        await worker.device.relocation.relocate(found[0], to)


@two_tiers
def relocation_to_another_tier(worker: Tiered) -> Scene:
    return on_first_tier(worker)


@two_tiers
def relocation_that_cannot_be_written(worker: Tiered) -> Scene:
    async def fail(worker: Tiered) -> None:
        second = tier_of(worker).second
        assert second is not None
        second.fail_writes = True
        with contextlib.suppress(OSError):
            await relocate_all(worker)
        second.fail_writes = False

    on_first_tier(worker)
    return work(worker, fail)


@scene
def relocation_into_memory(worker: Tiered) -> Scene:
    return on_first_tier(worker)


# -- attaching and parameters ----------------------------------------------------------


@scene
def attaching(worker: Tiered) -> Scene:
    trio.run(worker.move_out)
    worker.discard(0, 512)
    some_pages(worker)

    async def attach(worker: Tiered) -> None:
        Tiered(worker.memory, tier_of(worker))

    return work(worker, attach)


def uncounted(worker: Tiered) -> Tiered:
    """The next worker, which has not counted what ``worker`` stored."""
    trio.run(worker.move_out)
    # How many are left in memory depends on whose turn it was; nobody makes room in these scenes.
    for segment in worker.log.eviction_queue.all_sealed():
        for page in worker.pages_of(segment):
            worker.discard(page)
    some_pages(worker)
    following = Tiered(worker.memory, tier_of(worker), lazy=True)
    following.expected = dict(worker.expected)
    return following


@scene
def counting(worker: Tiered) -> Scene:
    async def count(worker: Tiered) -> None:
        while worker.cache.adopt_some(1):
            pass

    return work(uncounted(worker), count)


@scene
def overwrite_before_it_is_counted(worker: Tiered) -> Scene:
    return change(uncounted(worker), 3 * PAGE_SIZE, dense(9003), holes=True)


def uncounted_duplicates(worker: Tiered) -> Tiered:
    for page in range(0, 4096, 100):
        worker.store(page, pages.compressible(page // 200))
    return uncounted(worker)


@scene
def counting_of_duplicates(worker: Tiered) -> Scene:
    async def count(worker: Tiered) -> None:
        while worker.cache.adopt_some(1):
            pass

    return work(uncounted_duplicates(worker), count)


@scene
def overwrite_of_a_duplicate_before_it_is_counted(worker: Tiered) -> Scene:
    return change(uncounted_duplicates(worker), 3600 * PAGE_SIZE, dense(9003), holes=True)


@scene
def discard_before_it_is_counted(worker: Tiered) -> Scene:
    return punch(uncounted(worker), 500 * PAGE_SIZE, 600 * PAGE_SIZE)


def tier_of(worker: Tiered) -> FakeTier:
    assert isinstance(worker.tier, SharedTier)
    return worker.tier
