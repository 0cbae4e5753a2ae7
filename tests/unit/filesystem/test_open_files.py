"""Open text files: a reader sees the moment of its open."""

from __future__ import annotations

import pytest

from fuseswap.errors import NoSuchFile
from fuseswap.filesystem import tree as fs
from fuseswap.filesystem.open_files import MAX_KEPT, MAX_KEPT_BYTES, OpenTexts
from fuseswap.filesystem.tree import Tree

pytestmark = pytest.mark.slow


@pytest.fixture
def loads(tree: Tree) -> int:
    return tree.lookup(fs.STATS, "loads")


@pytest.fixture
def compressor(tree: Tree) -> int:
    return tree.lookup(fs.PARAMS, "compressor")


def test_a_reader_sees_the_moment_of_its_open(tree: Tree, loads: int) -> None:
    texts = OpenTexts(tree)
    before = texts.open(loads, readable=True)
    tree.swapfile.read(0, 4096)
    after = texts.open(loads, readable=True)
    assert texts.read(before, loads, 0, 100) == b"0\n"
    assert texts.read(after, loads, 0, 100) == b"1\n"


def test_a_text_is_read_in_pieces(tree: Tree, compressor: int) -> None:
    texts = OpenTexts(tree)
    handle = texts.open(compressor, readable=True)
    assert [texts.read(handle, compressor, at, 2) for at in (0, 2, 4)] == [b"lz", b"4\n", b""]


def test_handles_are_never_0_and_never_twice(tree: Tree, loads: int) -> None:
    texts = OpenTexts(tree)
    handles = []
    for _ in range(10):
        handles.append(texts.open(loads, readable=True))
        texts.release(handles[-1])
    assert 0 not in handles
    assert len(set(handles)) == 10


def test_a_handle_knows_its_inode(tree: Tree, loads: int) -> None:
    texts = OpenTexts(tree)
    last = tree.lookup(fs.PAGES, str(tree.device.cache.page_count - 1))
    for inode in (loads, last, fs.METRICS):
        handle = texts.open(inode, readable=False)
        assert texts.inode_of(handle) == inode
        texts.release(handle)
        texts.release(handle)
        assert texts.inode_of(handle) == inode


def test_whoever_opens_without_end_takes_nothing_from_others(tree: Tree, loads: int) -> None:
    texts = OpenTexts(tree)
    first = texts.open(loads, readable=True)
    for _ in range(MAX_KEPT + 1):
        texts.open(loads, readable=True)
    assert len(texts._kept) == MAX_KEPT
    tree.swapfile.read(0, 4096)
    assert texts.read(texts.open(loads, readable=True), loads, 0, 100) == b"1\n"
    assert texts.read(first, loads, 0, 100) == b"1\n", "it gave way, and is rendered anew"


def test_the_texts_that_are_kept_are_bounded(tree: Tree) -> None:
    texts = OpenTexts(tree)
    whole = texts.open(fs.METRICS, readable=True)
    size = len(texts.read(whole, fs.METRICS, 0, MAX_KEPT_BYTES))
    handles = [texts.open(fs.METRICS, readable=True) for _ in range(MAX_KEPT_BYTES // size)]
    assert texts._kept_bytes <= MAX_KEPT_BYTES
    tree.swapfile.read(0, 4096)
    kept, rendered = (texts.read(h, fs.METRICS, 0, 2 * size) for h in (handles[-1], whole))
    assert b'fuseswap_loads_total{device=""} 0\n' in kept
    assert b'fuseswap_loads_total{device=""} 1\n' in rendered
    for handle in (whole, *handles):
        texts.release(handle)
    assert texts._kept_bytes == 0


def test_what_is_not_there_cannot_be_opened(tree: Tree) -> None:
    with pytest.raises(NoSuchFile):
        OpenTexts(tree).open(999, readable=True)


def test_a_handle_of_a_former_worker_is_rendered_anew(tree: Tree, compressor: int) -> None:
    handle = OpenTexts(tree).open(compressor, readable=True)
    assert OpenTexts(tree).read(handle, compressor, 0, 100) == b"lz4\n"


def test_a_handle_of_a_former_worker_never_reads_another_file(
    tree: Tree, loads: int, compressor: int
) -> None:
    handle = OpenTexts(tree).open(compressor, readable=True)
    later = OpenTexts(tree)
    later.open(loads, readable=True)
    assert later.read(handle, compressor, 0, 100) == b"lz4\n"
