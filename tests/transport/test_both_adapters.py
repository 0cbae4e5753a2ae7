"""What both adapters must do alike: names, attributes, reads, writes, and each errno."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Awaitable

import pytest

from fuseswap.errors import FuseswapError
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.open_files import MAX_KEPT
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.filesystem.tree import Tree, param_inode, stat_inode
from fuseswap.units import MIB
from tests.support.fuse_requests import ROOT, SWAPFILE
from tests.support.memory_devices import flip_bit_of_page
from tests.transport.clients import Client

SIZE = 64 * MIB
PAGE = bytes(range(256)) * 16


async def expect(code: int, doing: Awaitable[object]) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        await doing
    assert caught.value.errno == code


async def test_names_lead_to_inodes(client: Client) -> None:
    swapfile = await client.lookup(ROOT, "swapfile")
    assert swapfile.inode == SWAPFILE
    assert swapfile.mode == stat.S_IFREG | 0o600
    assert swapfile.size == SIZE
    stats = await client.lookup(ROOT, "stats")
    assert stat.S_ISDIR(stats.mode)
    number = await client.lookup(stats.inode, STATISTICS[0].name)
    assert number.mode == stat.S_IFREG | 0o444
    labelled = await client.lookup(stats.inode, "codec_pages.lz4")
    assert labelled.mode == stat.S_IFREG | 0o444
    assert (await client.getattr(labelled.inode)) == labelled
    params = await client.lookup(ROOT, "params")
    parameter = await client.lookup(params.inode, PARAMETERS[0].name)
    assert parameter.mode == stat.S_IFREG | 0o644
    assert (await client.getattr(parameter.inode)) == parameter


@pytest.mark.parametrize("name", ["", "nothing", "swapfile2", "a" * 300, "stats/loads"])
async def test_no_such_name(client: Client, name: str) -> None:
    await expect(errno.ENOENT, client.lookup(ROOT, name))
    await expect(errno.ENOENT, client.lookup(SWAPFILE, name))


async def test_no_such_inode(client: Client) -> None:
    await expect(errno.ENOENT, client.getattr(99))
    await expect(errno.ENOENT, client.getattr(stat_inode("nothing")))
    await expect(errno.ENOENT, client.getattr(param_inode("nothing")))
    await expect(errno.ENOENT, client.open(99, os.O_RDONLY))
    await expect(errno.ENOENT, client.opendir(SWAPFILE))


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, SIZE - 4096])
@pytest.mark.parametrize("size", [1, 511, 4096, 12289])
async def test_what_is_written_is_read(client: Client, offset: int, size: int) -> None:
    data = (PAGE * 4)[:size]
    size = min(size, SIZE - offset)  # across the end it is short
    assert await client.write(SWAPFILE, 0, offset, data) == size
    assert await client.read(SWAPFILE, 0, offset, size) == data[:size]
    before = await client.read(SWAPFILE, 0, max(0, offset - 10), min(10, offset))
    assert not any(before)


async def test_a_write_behind_the_end_is_efbig(client: Client) -> None:
    for offset in (SIZE, SIZE + 1, 1 << 62):
        await expect(errno.EFBIG, client.write(SWAPFILE, 0, offset, PAGE))


async def test_names_and_times_are_settled(client: Client) -> None:
    for name in ("create", "mkdir", "mknod", "unlink", "rmdir", "symlink", "rename", "link"):
        await expect(errno.EPERM, client.change(name))
    await expect(errno.EPERM, client.touch(SWAPFILE))


async def test_reads_end_with_the_file(client: Client) -> None:
    assert await client.read(SWAPFILE, 0, SIZE - 10, 4096) == bytes(10)
    assert await client.read(SWAPFILE, 0, SIZE, 4096) == b""
    assert await client.read(SWAPFILE, 0, 1 << 62, 4096) == b""


async def test_swapfile_keeps_size_and_mode(client: Client) -> None:
    await expect(errno.EPERM, client.truncate(SWAPFILE, 0))
    await expect(errno.EPERM, client.truncate(SWAPFILE, SIZE + 4096))
    assert (await client.truncate(SWAPFILE, SIZE)).size == SIZE
    await expect(errno.EPERM, client.chmod(SWAPFILE, 0o777))
    await expect(errno.EPERM, client.open(SWAPFILE, os.O_RDWR | os.O_TRUNC))
    assert (await client.getattr(SWAPFILE)).mode == stat.S_IFREG | 0o600


async def test_parameters_are_written_and_read(client: Client, device: Device) -> None:
    inode = (await client.lookup((await client.lookup(ROOT, "params")).inode, "compressor")).inode
    handle = await client.open(inode, os.O_WRONLY | os.O_TRUNC)
    assert await client.write(inode, handle, 0, b"zstd:3\n") == 7
    await client.flush(inode, handle)
    await client.release(inode, handle)
    assert device.cache.encoder.compressor.name == "zstd:3"
    handle = await client.open(inode, os.O_RDONLY)
    assert await client.read(inode, handle, 0, 4096) == b"zstd:3\n"
    assert await client.read(inode, handle, 5, 1) == b"3"
    assert await client.read(inode, handle, 4096, 4096) == b""
    await client.release(inode, handle)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compressor", b"gzip"),
        ("compressor", b"zstd:99"),
        ("compressor", b"\xff\xfe"),
        ("pool_limit_bytes", b"1"),
        ("pool_limit_bytes", b""),
        ("same_filled_pages_enabled", b"perhaps"),
        ("non_same_filled_pages_enabled", b"2"),
        ("busy_poll_us", b"-1"),
        ("busy_poll_us", b"1001"),
        ("busy_poll_us", b"5" * 4000),
        ("busy_poll_us", b"5" * 5000),
        pytest.param(
            "pool_limit_bytes",
            b"9" * 400,
        ),
    ],
)
async def test_bad_value_is_einval_and_changes_nothing(
    client: Client, device: Device, name: str, value: bytes
) -> None:
    before = [parameter.get(device) for parameter in PARAMETERS]
    inode = (await client.lookup((await client.lookup(ROOT, "params")).inode, name)).inode
    handle = await client.open(inode, os.O_WRONLY)
    await expect(errno.EINVAL, client.write(inode, handle, 0, value))
    assert [parameter.get(device) for parameter in PARAMETERS] == before


async def test_statistics_are_not_written(client: Client) -> None:
    inode = (await client.lookup((await client.lookup(ROOT, "stats")).inode, "loads")).inode
    handle = await client.open(inode, os.O_RDWR)
    await expect(errno.EPERM, client.write(inode, handle, 0, b"1"))
    await expect(errno.EPERM, client.truncate(inode, 0))


async def test_a_reader_sees_one_moment(client: Client) -> None:
    inode = (await client.lookup((await client.lookup(ROOT, "stats")).inode, "stored_pages")).inode
    handle = await client.open(inode, os.O_RDONLY)
    await client.write(SWAPFILE, 0, 0, PAGE)
    assert await client.read(inode, handle, 0, 4096) == b"0\n"
    later = await client.open(inode, os.O_RDONLY)
    assert await client.read(inode, later, 0, 4096) == b"1\n"


async def test_a_page_explains_itself(client: Client) -> None:
    pages = await client.lookup(ROOT, "pages")
    assert pages.mode == stat.S_IFDIR | 0o500
    await client.opendir(pages.inode)
    await client.write(SWAPFILE, 0, 4096, PAGE)
    hole, stored = [await client.lookup(pages.inode, str(page)) for page in (0, 1)]
    assert (hole.mode, stored.inode) == (stat.S_IFREG | 0o400, hole.inode + 1)
    handle = await client.open(stored.inode, os.O_RDONLY)
    text = await client.read(stored.inode, handle, 0, 4096)
    assert json.loads(text)["where"] == "memory"
    assert (await client.getattr(stored.inode)).size == 0, "it would have to be rendered"
    assert await client.read(stored.inode, handle, 2, 4) == text[2:6]
    await client.write(SWAPFILE, 0, 4096, bytes(4096))
    assert await client.read(stored.inode, handle, 0, 4096) == text, "one moment"
    await expect(errno.EPERM, client.write(stored.inode, handle, 0, b"1"))
    await expect(errno.EPERM, client.truncate(stored.inode, 0))


@pytest.mark.parametrize("name", [str(SIZE // 4096), "-1", "01", "x", "9" * 200])
async def test_what_is_no_page_has_no_file(client: Client, name: str) -> None:
    pages = await client.lookup(ROOT, "pages")
    await expect(errno.ENOENT, client.lookup(pages.inode, name))
    await expect(errno.ENOENT, client.getattr((1 << 40) + SIZE // 4096))
    await expect(errno.ENOENT, client.open((1 << 40) - 1, os.O_RDONLY))


async def test_files_that_stay_open_keep_nobody_from_opening(client: Client) -> None:
    inode = (await client.lookup((await client.lookup(ROOT, "params")).inode, "compressor")).inode
    handles = [await client.open(inode, os.O_RDONLY) for _ in range(MAX_KEPT + 1)]
    for handle in (handles[0], handles[-1], await client.open(inode, os.O_RDONLY)):
        assert await client.read(inode, handle, 0, 100) == b"lz4\n"
    await client.write(inode, handles[0], 0, b"zstd:1")


async def test_full_pool_is_enospc_and_the_rest_stays(client: Client, device: Device) -> None:
    device.cache.pool_limit_bytes = 8 * MIB
    stored: dict[int, bytes] = {}

    async def fill() -> None:
        while True:
            data = os.urandom(4096)
            await client.write(SWAPFILE, 0, len(stored) * 4096, data)
            stored[len(stored)] = data

    await expect(errno.ENOSPC, fill())
    assert 6 * MIB // 4096 < len(stored) < 7 * MIB // 4096  # one frame is the cleaner's
    for page, data in stored.items():
        assert await client.read(SWAPFILE, 0, page * 4096, 4096) == data
    await expect(errno.ENOSPC, client.write(SWAPFILE, 0, 0, os.urandom(4096)))
    assert await client.read(SWAPFILE, 0, 0, 4096) == bytes(4096), "never the old version"


async def test_corrupt_page_is_eio_alone(client: Client, device: Device) -> None:
    device.cache.dedup.set_switch("off")
    for page in range(3):
        await client.write(SWAPFILE, 0, page * 4096, PAGE)
    flip_bit_of_page(device, 1)
    await expect(errno.EIO, client.read(SWAPFILE, 0, 4096, 4096))
    await expect(errno.EIO, client.read(SWAPFILE, 0, 0, 3 * 4096))
    await expect(errno.EIO, client.write(SWAPFILE, 0, 4096 + 5, b"part of a page"))
    assert await client.read(SWAPFILE, 0, 0, 4096) == PAGE
    assert await client.read(SWAPFILE, 0, 8192, 4096) == PAGE
    await client.write(SWAPFILE, 0, 4096, PAGE)
    assert await client.read(SWAPFILE, 0, 4096, 4096) == PAGE
    assert device.cache.reader.counters.checksum_errors == 3


async def test_unexpected_error_is_eio_and_logged(
    client: Client, tree: Tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(inode: int) -> object:
        raise RuntimeError("not a fuseswap error")

    monkeypatch.setattr(tree, "attributes", broken)
    assert not issubclass(RuntimeError, FuseswapError)
    await expect(errno.EIO, client.getattr(SWAPFILE))
    assert "not a fuseswap error" in caplog.text


async def test_statfs_and_blocks_tell_the_truth(client: Client) -> None:
    empty = await client.statfs()
    assert (empty.block_size, empty.blocks, empty.blocks_free) == (4096, SIZE // 4096, SIZE // 4096)
    assert (empty.files, empty.name_max) == (0, 255)  # `df -i` shows no share of inodes
    for page in range(600):
        await client.write(SWAPFILE, 0, page * 4096, os.urandom(4096))
    assert (await client.statfs()).blocks_free == SIZE // 4096 - 600
    held = (await client.getattr(SWAPFILE)).blocks * 512
    assert 600 * 4096 <= held <= 4 * MIB


async def test_fsync_and_flush_succeed(client: Client) -> None:
    await client.write(SWAPFILE, 0, 0, PAGE)
    await client.flush(SWAPFILE, 0)
    await client.fsync(SWAPFILE, 0)
    await client.release(SWAPFILE, 0)


async def test_failed_requests_are_counted(client: Client, device: Device) -> None:
    await expect(errno.EPERM, client.truncate(SWAPFILE, 0))
    await expect(errno.ENOENT, client.lookup(ROOT, "nothing"))
    assert device.transport.failed_requests == 1, "a missing name is no failure"
