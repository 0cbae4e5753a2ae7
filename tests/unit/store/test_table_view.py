"""The tables as another process reads them, against what the device itself says."""

from __future__ import annotations

import os

import pytest

from fuseswap.errors import StateMismatch
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import find_parameter, set_parameter
from fuseswap.store.slot_word import is_object, is_same_filled, length_of, segment_of
from fuseswap.store.table_view import TableView
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory


def write(device: Device, page: int, data: bytes) -> None:
    device.swapfile.write(page * PAGE_SIZE, memoryview(data))


def view_of(memory: SharedMemory) -> TableView:
    return TableView(*(memory.fds[name] for name in ("header", "slots", "segments")))


def test_words_and_segments_are_those_of_the_device(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    write(device, 1, pages.filled(0))
    write(device, 2, pages.compressible(1))
    write(device, 600, pages.incompressible(2))
    view = view_of(memory)
    for page in (0, 1, 2, 3, 600):
        assert view.word(PageNumber(page)) == device.cache.slots.get(PageNumber(page))
    assert is_same_filled(view.word(PageNumber(1)))
    word = view.word(PageNumber(2))
    assert is_object(word)
    assert length_of(word) < PAGE_SIZE
    found = view.segment(segment_of(word))
    assert found is not None
    assert (found.tier, found.sealed_at) == (None, None), "in memory, and open"
    assert view.stored_pages() == 3


def test_the_key_is_not_read(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in the memory of a command, which may be swapped out."""
    key = memory.attach().key
    assert key in os.pread(memory.fds["header"], PAGE_SIZE, 0)
    read: list[bytes] = []
    pread = os.pread

    def noted(fd: int, length: int, offset: int) -> bytes:
        read.append(pread(fd, length, offset))
        return read[-1]

    monkeypatch.setattr(os, "pread", noted)
    view_of(memory)
    assert read
    assert not any(key in part for part in read)


def test_a_hole_takes_no_memory_by_being_looked_at(memory: SharedMemory) -> None:
    view = view_of(memory)
    before = memory.allocated_bytes("slots")
    beyond = memory.geometry.page_count
    assert [view.word(PageNumber(page)) for page in (5, 700, beyond, 1 << 40)] == [0] * 4
    assert view.stored_pages() == 0
    assert memory.allocated_bytes("slots") == before


def test_sealed_segments_have_their_time_and_free_ones_nothing(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    for page in range(600):
        write(device, page, pages.incompressible(page))
    view = view_of(memory)
    sealed = view.segment(segment_of(view.word(PageNumber(0))))
    assert sealed is not None
    assert sealed.sealed_at is not None
    assert view.segment(device.cache.log.table.take_id()) is None


def test_pages_that_share_an_object_are_counted(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    set_parameter(device, find_parameter("dedup"), "on")
    for page in range(5):
        write(device, page, pages.compressible(1))
    write(device, 9, pages.compressible(2))
    view = view_of(memory)
    assert device.statistics()["duplicate_pages"] == 4
    counts = view.sharers()
    assert sorted(counts.values()) in ([5], [1, 5])


def test_clusters_with_memory_are_found(memory: SharedMemory) -> None:
    device = Device(memory.attach())
    view = view_of(memory)
    assert (view.clusters(3), view.cluster_end()) == ([], 0)
    write(device, 1, pages.filled(1))
    write(device, 1279, pages.filled(2))
    assert (view.clusters(2), view.cluster_end()) == ([0, 2], 3)
    assert view.clusters(1) is None
    assert view.words(0)[1] == view.word(PageNumber(1)) != 0
    assert list(view.words(1)) == [0] * 512


def test_the_last_cluster_is_found_wherever_it_is(memory: SharedMemory) -> None:
    slots = os.memfd_create("slots")
    try:
        os.ftruncate(slots, 100 * PAGE_SIZE)
        view = TableView(memory.fds["header"], slots, memory.fds["segments"])
        for last in range(100):
            os.pwrite(slots, b"x", last * PAGE_SIZE)
            assert view.cluster_end() == last + 1
    finally:
        os.close(slots)


def test_a_header_of_another_version_is_refused(memory: SharedMemory) -> None:
    for at in (8, PAGE_SIZE + 8):
        os.pwrite(memory.fds["header"], b"\x63", at)
    with pytest.raises(StateMismatch, match="another fuseswap"):
        view_of(memory)
