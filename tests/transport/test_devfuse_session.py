"""devfuse: INIT, what is never answered, what is not implemented, what is malformed."""

from __future__ import annotations

import errno
import struct

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import param_inode
from tests.support.fuse_requests import (
    ROOT,
    SILENT,
    SWAPFILE,
    FakeKernel,
    Op,
    init_request,
    read_request,
    request,
    write_request,
)

INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
MIB = 1 << 20

# include/uapi/linux/fuse.h
FUSE_BIG_WRITES = 1 << 5
FUSE_WRITEBACK_CACHE = 1 << 16
FUSE_PARALLEL_DIROPS = 1 << 18
FUSE_MAX_PAGES = 1 << 22
FUSE_INIT_EXT = 1 << 30
FUSE_HAS_RESEND = 1 << 39 - 32  # in flags2

ANSWERED_WITH_NOTHING = (
    Op.FLUSH, Op.FSYNC, Op.FSYNCDIR, Op.RELEASE, Op.RELEASEDIR, Op.DESTROY
)  # fmt: skip
NOT_IMPLEMENTED = (
    Op.GETXATTR, Op.IOCTL, Op.READDIRPLUS, 7, 60, 4096, 0xFFFFFFFF
)  # fmt: skip


def test_init_settles_what_both_know(kernel: FakeKernel, device: Device) -> None:
    reply = kernel.ask(init_request(flags2=0xFFFFFFFF))
    assert not reply.error
    assert len(reply.body) == 64
    major, minor, readahead, flags, background, congestion, max_write, _, pages, _, flags2 = (
        INIT_OUT.unpack(reply.body)
    )
    assert (major, minor) == (7, 41)
    assert readahead == 131072
    assert max_write == MIB
    assert pages == 256
    assert background > 12, "the kernel's default throttles loop's direct I/O"
    assert congestion <= background
    for wanted in (FUSE_BIG_WRITES, FUSE_PARALLEL_DIROPS, FUSE_MAX_PAGES, FUSE_INIT_EXT):
        assert flags & wanted
    assert not flags & FUSE_WRITEBACK_CACHE, "what is acknowledged must be stored"
    assert flags2 & FUSE_HAS_RESEND
    session = device.state.session
    assert session is not None, "the next worker reads it"
    assert (session.major, session.minor, session.max_write) == (7, 41, MIB)
    assert session.flags == flags | flags2 << 32


def test_init_takes_no_flag_that_was_not_offered(kernel: FakeKernel) -> None:
    reply = kernel.ask(init_request(minor=36, flags=FUSE_BIG_WRITES, flags2=0xFFFFFFFF))
    fields = INIT_OUT.unpack(reply.body)
    assert fields[1] == 36, "the older minor of the two"
    assert fields[3] == FUSE_BIG_WRITES
    assert not fields[10], "without INIT_EXT there is no second word"


def test_init_of_an_old_kernel_is_short(kernel: FakeKernel) -> None:
    body = struct.pack("<IIII", 7, 31, 131072, FUSE_BIG_WRITES)
    assert not kernel.ask(request(Op.INIT, 0, body)).error


@pytest.mark.parametrize(("major", "minor"), [(6, 41), (8, 0), (7, 30), (0, 0)])
def test_init_refuses_other_protocols(
    kernel: FakeKernel, device: Device, major: int, minor: int
) -> None:
    assert kernel.ask(init_request(major, minor)).error == errno.EPROTO
    assert device.state.session is None


@pytest.mark.parametrize("opcode", sorted(SILENT))
def test_some_are_never_answered(kernel: FakeKernel, opcode: Op) -> None:
    for body in (b"", bytes(8), bytes(16), bytes(4000)):
        kernel.tell(request(opcode, SWAPFILE, body))


@pytest.mark.parametrize("opcode", ANSWERED_WITH_NOTHING)
def test_some_only_succeed(kernel: FakeKernel, opcode: Op) -> None:
    reply = kernel.ask(request(opcode, SWAPFILE, bytes(24)))
    assert (reply.error, reply.body) == (0, b"")


@pytest.mark.parametrize("opcode", NOT_IMPLEMENTED)
def test_the_rest_is_enosys(kernel: FakeKernel, opcode: int) -> None:
    assert kernel.ask(request(opcode, ROOT, bytes(64))).error == errno.ENOSYS


@pytest.mark.parametrize(
    "opcode",
    [Op.SETATTR, Op.OPEN, Op.READ, Op.WRITE, Op.READDIR, Op.FALLOCATE, Op.LSEEK, Op.INIT],
)
def test_short_bodies_are_einval(kernel: FakeKernel, device: Device, opcode: Op) -> None:
    for inode in (ROOT, SWAPFILE, 0x2000):
        for length in (0, 1, 7):
            assert kernel.ask(request(opcode, inode, bytes(length))).error == errno.EINVAL
    assert device.transport.malformed_requests


def test_lengths_that_do_not_match_are_einval(kernel: FakeKernel, device: Device) -> None:
    good = write_request(0, bytes(4096))
    for length in (40, 79, 80, len(good) - 1):
        assert kernel.ask(good[:length]).error == errno.EINVAL
    longer = struct.pack("<I", len(good) + 8) + good[4:] + bytes(8)
    assert kernel.ask(longer).error == errno.EINVAL, "more data than the write says"
    assert device.transport.malformed_requests == 5
    assert not device.cache.statistics().stored_pages


def test_a_read_larger_than_was_settled_is_einval(kernel: FakeKernel) -> None:
    assert not kernel.ask(read_request(0, MIB)).error
    assert kernel.ask(read_request(0, MIB + 1)).error == errno.EINVAL
    assert kernel.ask(read_request(0, 0xFFFFFFFF)).error == errno.EINVAL


def test_less_than_a_header_has_nobody_to_answer(kernel: FakeKernel, device: Device) -> None:
    for length in (0, 1, 16, 39):
        assert kernel.raw(read_request(0, 4096)[:length]) is None
    assert device.transport.malformed_requests == 4


def test_a_malformed_request_of_an_unknown_opcode_is_answered(kernel: FakeKernel) -> None:
    message = request(0x100 | Op.FORGET, SWAPFILE, bytes(8))
    assert kernel.ask(message[:-1]).error == errno.EINVAL


def test_writing_short_to_a_parameter_is_einval(kernel: FakeKernel) -> None:
    whole = write_request(0, b"lz4\n", inode=param_inode("compressor"))
    cut = struct.pack("<I", len(whole) - 1) + whole[4:-1]
    assert kernel.ask(cut).error == errno.EINVAL
    assert not kernel.ask(whole).error


def test_unused_values_are_no_matter(kernel: FakeKernel) -> None:
    message = bytearray(read_request(0, 4096))
    message[24:40] = b"\xff" * 16  # uid, gid, pid, extensions
    message[60:80] = b"\xff" * 20  # read flags, lock owner, flags
    assert kernel.ask(bytes(message)).body == bytes(4096)
