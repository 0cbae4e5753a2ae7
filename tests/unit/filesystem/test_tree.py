"""The tree: names, inodes, attributes and texts."""

from __future__ import annotations

import gc
import json
import stat
from binascii import crc32

import pytest

from fuseswap.errors import InvalidArgument, NoSuchFile, NotPermitted
from fuseswap.filesystem import tree as fs
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.filesystem.tree import Tree
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.memory_stores import SMALL, SharedMemory

CODECS = ("raw", "lz4", "zstd", "fill", "zstd_dictionary")


def inode_of(tree: Tree, path: str) -> int:
    inode = fs.ROOT
    for name in path.split("/"):
        inode = tree.lookup(inode, name)
    return inode


def test_the_root_has_six_names(tree: Tree) -> None:
    names = [(entry.name, entry.is_directory) for entry in tree.entries(fs.ROOT)]
    assert names == [
        ("swapfile", False),
        ("stats", True),
        ("params", True),
        ("metrics", False),
        ("metrics.prom", False),
        ("pages", True),
    ]


def test_directories_list_the_tables(tree: Tree) -> None:
    plain = [s.name for s in STATISTICS if not s.labels]
    listed = [e.name for e in tree.entries(fs.STATS)]
    assert listed[: len(plain)] == plain
    assert set(listed[len(plain) :]) == {
        *(f"codec_{what}.{codec}" for what in ("pages", "bytes") for codec in CODECS),
        *(f"backend_{what}.cache" for what in ("stores", "refusals", "loads")),
        "curr_pages.cache",
    }
    assert [e.name for e in tree.entries(fs.PARAMS)] == [p.name for p in PARAMETERS]


def test_lookup_finds_every_entry_and_inodes_are_unique(tree: Tree) -> None:
    inodes = [fs.ROOT]
    for directory in (fs.ROOT, fs.STATS, fs.PARAMS, fs.PAGES):
        for entry in tree.entries(directory):
            assert tree.lookup(directory, entry.name) == entry.inode
            assert stat.S_ISDIR(tree.attributes(entry.inode).mode) == entry.is_directory
            inodes.append(entry.inode)
    assert len(set(inodes)) == len(inodes)


def test_inodes_hold_across_a_restart_of_the_worker(memory: SharedMemory) -> None:
    first, second = (Tree(Device(memory.attach())) for _ in range(2))
    for directory in (fs.ROOT, fs.STATS, fs.PARAMS):
        assert first.entries(directory) == second.entries(directory)


def test_inodes_hold_across_a_restart_with_other_tables(tree: Tree) -> None:
    """The kernel keeps those it looked up: what is between two names must not count."""
    for base, directory in ((1 << 32, fs.STATS), (2 << 32, fs.PARAMS)):
        for entry in tree.entries(directory):
            assert entry.inode == base + crc32(entry.name.encode())


@pytest.mark.parametrize(
    "name",
    ["", ".", "nothing", "swapfile/", "stats", "codec_pages", "codec_pages.", "codec_pages.lz5"],
)
def test_lookup_of_anything_else_is_no_such_file(tree: Tree, name: str) -> None:
    with pytest.raises(NoSuchFile):
        tree.lookup(fs.STATS, name)
    with pytest.raises(NoSuchFile):
        tree.lookup(fs.SWAPFILE, name)


@pytest.mark.parametrize(
    "inode",
    [
        0,
        9,
        1 << 32,
        (1 << 32) + crc32(b"codec_pages"),
        (2 << 32) + crc32(b"stored_pages"),
        3 << 32,
        fs.PAGE_BASE - 1,
        fs.PAGE_BASE + SMALL.page_count,
        2**63,
    ],
)
def test_an_inode_that_is_not_there(tree: Tree, inode: int) -> None:
    for ask in (tree.attributes, tree.text, tree.entries):
        with pytest.raises(NoSuchFile):
            ask(inode)


def test_modes(tree: Tree) -> None:
    modes = {
        path: stat.filemode(tree.attributes(inode_of(tree, path)).mode)
        for path in (
            "swapfile",
            "stats",
            "stats/loads",
            "params/compressor",
            "metrics",
            "pages",
            "pages/7",
        )
    }
    assert modes == {
        "swapfile": "-rw-------",
        "stats": "dr-xr-xr-x",
        "stats/loads": "-r--r--r--",
        "params/compressor": "-rw-r--r--",
        "metrics": "-r--r--r--",
        "pages": "dr-x------",
        "pages/7": "-r--------",
    }
    assert tree.attributes(fs.ROOT).links == 5
    assert tree.attributes(fs.STATS).links == 2


@pytest.mark.parametrize(
    "name", ["", "-1", "+1", "01", "1.0", " 1", "1_0", "\u0661", "x", "9" * 5000, "1280"]
)
def test_what_is_no_page(tree: Tree, name: str) -> None:
    with pytest.raises(NoSuchFile):
        tree.lookup(fs.PAGES, name)


def test_every_page_has_a_file_and_none_is_listed(tree: Tree) -> None:
    last = SMALL.page_count - 1
    inodes = [tree.lookup(fs.PAGES, str(page)) for page in (0, last)]
    assert inodes == [fs.PAGE_BASE, fs.PAGE_BASE + last]
    assert tree.entries(fs.PAGES) == []
    assert json.loads(tree.text(inodes[1]))["page"] == last
    with pytest.raises(NotPermitted):
        tree.write_text(inodes[0], 0, b"1")
    with pytest.raises(NotPermitted):
        tree.resize(inodes[0], 0)


def test_blocks_are_what_is_really_held(memory: SharedMemory, tree: Tree) -> None:
    assert tree.attributes(fs.SWAPFILE).blocks == 0
    tree.swapfile.write(0, memoryview(pages.incompressible(1)))
    tree.device.state.dictionaries.populate(0, PAGE_SIZE)
    tree.device.state.index.populate(0, 2 * PAGE_SIZE)
    growing = ("slots", "segments", "arena", "dictionaries", "index")
    held = sum(memory.allocated_bytes(name) for name in growing)
    attributes = tree.attributes(fs.SWAPFILE)
    assert attributes.blocks * 512 == held > PAGE_SIZE
    assert attributes.size_bytes == SMALL.page_count * PAGE_SIZE


def test_usage_counts_holes_as_free(tree: Tree) -> None:
    tree.swapfile.write(0, memoryview(pages.compressible(1) * 3))
    usage = tree.usage()
    assert (usage.blocks, usage.blocks_free) == (SMALL.page_count, SMALL.page_count - 3)


def test_texts_are_one_line_and_have_no_size(tree: Tree) -> None:
    tree.swapfile.write(0, memoryview(pages.compressible(1)))
    for directory in (fs.STATS, fs.PARAMS):
        for entry in tree.entries(directory):
            text = tree.text(entry.inode)
            assert text.endswith(b"\n")
            assert text.count(b"\n") == 1
            assert tree.attributes(entry.inode).size_bytes == 0
    assert tree.text(inode_of(tree, "stats/stored_pages")) == b"1\n"
    assert tree.text(inode_of(tree, "stats/codec_pages.lz4")) == b"1\n"
    assert tree.text(inode_of(tree, "stats/codec_pages.zstd")) == b"0\n"
    assert tree.text(inode_of(tree, "params/compressor")) == b"lz4\n"
    assert tree.text(fs.METRICS).endswith(b"# EOF\n")


def test_a_reader_of_everything_leaves_nothing_for_the_collector(tree: Tree) -> None:
    tree.swapfile.write(0, memoryview(pages.compressible(1)))

    def read_all() -> None:
        for directory in (fs.ROOT, fs.STATS, fs.PARAMS):
            for entry in tree.entries(directory):
                if not entry.is_directory and entry.inode != fs.SWAPFILE:
                    tree.text(entry.inode)
        tree.usage()

    read_all()  # what is made once
    gc.collect()
    gc.disable()
    try:
        read_all()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_parameter_is_written_with_or_without_a_newline(tree: Tree) -> None:
    inode = inode_of(tree, "params/compressor")
    for data in (b"zstd:5\n", b"zstd:5"):
        tree.resize(inode, 0)  # the shell's > truncates first
        tree.write_text(inode, 0, data)
        assert tree.text(inode) == b"zstd:5\n"


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"lzo\n"), (0, b""), (0, b"zstd\xff"), (0, b"\0"), (1, b"zstd"), (0, b"z" * 4097)],
)
def test_a_bad_write_changes_nothing(tree: Tree, offset: int, data: bytes) -> None:
    inode = inode_of(tree, "params/compressor")
    with pytest.raises(InvalidArgument):
        tree.write_text(inode, offset, data)
    assert tree.text(inode) == b"lz4\n"


def test_why_a_value_was_refused_can_be_read(tree: Tree) -> None:
    why = tree.lookup(fs.ROOT, ".refusal")
    assert tree.text(why) == b""
    with pytest.raises(InvalidArgument):
        tree.write_text(inode_of(tree, "params/pool_limit_bytes"), 0, b"1M\n")
    assert tree.text(why) == b"pool_limit_bytes=1M: pool_limit_bytes is at least 8388608\n"
    assert ".refusal" not in [entry.name for entry in tree.entries(fs.ROOT)]


@pytest.mark.parametrize("path", ["stats/loads", "stats", "metrics", "swapfile"])
def test_only_parameters_can_be_written(tree: Tree, path: str) -> None:
    with pytest.raises(NotPermitted):
        tree.write_text(inode_of(tree, path), 0, b"1")


def test_the_swapfile_keeps_its_size(tree: Tree) -> None:
    tree.resize(fs.SWAPFILE, SMALL.page_count * PAGE_SIZE)
    for size in (0, PAGE_SIZE, 1 << 50):
        with pytest.raises(NotPermitted):
            tree.resize(fs.SWAPFILE, size)
    with pytest.raises(NotPermitted):
        tree.resize(inode_of(tree, "stats/loads"), 0)
