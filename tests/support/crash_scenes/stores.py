"""Scenes of stores: in holes, over pages, of duplicates, of parts of pages."""

from __future__ import annotations

import trio

from fuseswap.store.segment_entry import Stream
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.crash_scenes.scene import change, fill, punch, scene, some_pages, tierless
from tests.support.crashes import Scene
from tests.support.memory_stores import set_patience
from tests.support.tiered_devices import Tiered, dense

# -- stores ------------------------------------------------------------------------------


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


# -- duplicates --------------------------------------------------------------------------


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


# -- partial writes ----------------------------------------------------------------------


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
