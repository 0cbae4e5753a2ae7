"""When the power goes: cuts follow from a seed, and lose nothing that was flushed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels import write_log
from tests.kernels.power_cuts import Cut, choose, intervals, replayed
from tests.kernels.write_log import FLUSH, FUA, Entry

SECTOR, SIZE = 512, 12288
# w0 w1 | w3 fua4 w5 | | w8
FLAGS = [0, 0, FLUSH, 0, FUA, 0, FLUSH, FLUSH, 0]


def entries() -> list[Entry]:
    return [
        Entry(number * SIZE + 1024, 0 if flags & FLUSH else SIZE, flags, 0)
        for number, flags in enumerate(FLAGS)
    ]


def test_intervals_are_between_flushes_and_not_empty() -> None:
    assert intervals(entries()) == [range(2), range(3, 6), range(8, 9)]


def test_a_flush_that_writes_flushes_what_came_before_it() -> None:
    """As the kernel's own log may have it: the write itself is not flushed."""
    both = [Entry(0, 512, 0, 0), Entry(512, 512, FLUSH, 0), Entry(0, 0, FLUSH, 0)]
    assert intervals(both) == [range(1), range(1, 2)]


def test_a_seed_makes_the_same_cuts() -> None:
    assert choose(entries(), 20, 7) == choose(entries(), 20, 7)
    assert choose(entries(), 20, 7) != choose(entries(), 20, 8)


def test_there_are_so_many_in_their_order() -> None:
    cuts = choose(entries(), 50, 1)
    assert len(cuts) == 50
    assert [cut.at for cut in cuts] == sorted(cut.at for cut in cuts)


def test_none_comes_before_the_start() -> None:
    assert {cut.at >= 3 for cut in choose(entries(), 50, 1, start=3)} == {True}
    assert {cut.at >= 5 for cut in choose(entries(), 50, 1, start=5)} == {True}
    assert choose(entries(), 5, 1, start=9) == []


def test_both_kinds_are_there() -> None:
    cuts = choose(entries(), 60, 3)
    assert {3, 7, 9} <= {cut.at for cut in cuts if cut.is_whole}
    assert any(cut.lost for cut in cuts)
    assert any(cut.torn for cut in cuts)


@pytest.mark.parametrize("seed", range(20))
def test_only_what_was_not_flushed_is_lost_or_torn(seed: int) -> None:
    """Nor is a write with FUA, on which what follows it may rely."""
    found = entries()
    for cut in choose(found, 20, seed):
        flushed = max((n for n in range(cut.at) if found[n].is_flush), default=-1)
        touched = {*cut.lost, *([cut.torn[0]] if cut.torn else [])}
        assert all(flushed < number < cut.at for number in touched)
        assert not any(found[number].is_kept for number in touched)
        if cut.torn:
            number, there = cut.torn
            assert number not in cut.lost
            assert 0 < there < SIZE
            assert (found[number].at + there) % 4096 == 0


def test_a_write_of_one_sector_is_not_torn() -> None:
    small = [Entry(1024 * number, 1024, 0, 0) for number in range(20)]
    assert not any(cut.torn for cut in choose(small, 50, 1))


def test_a_disk_has_what_the_cut_left(tmp_path: Path) -> None:
    log, base = tmp_path / "log", tmp_path / "base"
    base.write_bytes(b"." * 4 * SECTOR)
    requests = [
        (0, b"a" * SECTOR, 0), (0, b"", FLUSH), (SECTOR, b"b" * 2 * SECTOR, 0),
        (0, b"c" * SECTOR, 0), (3 * SECTOR, b"d" * SECTOR, 0),
    ]  # fmt: skip
    write_log.write(log, requests)
    cuts = [
        Cut(1, frozenset({0})),
        Cut(2),
        Cut(4, frozenset({3}), (2, SECTOR)),
        Cut(5, frozenset({2})),
        Cut(5),
    ]
    with replayed(write_log.read(log), log, base, cuts) as disks:
        found = [bytes(disk.read_bytes()[::SECTOR]).decode() for _, disk in disks]
    assert found == ["....", "a...", "ab..", "c..d", "cbbd"]
    assert base.read_bytes() == b"." * 4 * SECTOR


def test_holes_of_a_disk_are_zeros(tmp_path: Path) -> None:
    """Also where the disk of the cut before had something."""
    log, base = tmp_path / "log", tmp_path / "base"
    with open(base, "wb") as file:
        file.truncate(1 << 20)
        file.seek(512 << 10)
        file.write(b"x" * 4096)
        file.truncate(1 << 20)
    write_log.write(log, [(0, b"a" * SECTOR, 0)])
    with replayed(write_log.read(log), log, base, [Cut(1), Cut(1, frozenset({0}))]) as disks:
        first, second = [disk.read_bytes() for _, disk in disks]
    assert second == base.read_bytes()
    assert first == b"a" * SECTOR + second[SECTOR:]
