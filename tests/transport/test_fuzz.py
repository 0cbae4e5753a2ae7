"""A million malformed and random requests, and no wrong answer to the valid ones between.

What a request did is judged by a model that knows only the protocol: a WRITE or FALLOCATE
of the swapfile that was answered with success must have been valid and has its effect on
the model, one that was answered with an error has none.  Valid reads and writes come in
between and must be answered as the model says; at the end the whole file must equal it.
"""

from __future__ import annotations

import os
import random
import struct
from collections import Counter

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.tree import Tree
from fuseswap.units import MIB
from tests.support.fuse_requests import (
    FALLOCATE,
    HEADER,
    READ_WRITE,
    REPLY,
    SILENT,
    SWAPFILE,
    FakeKernel,
    Op,
    init_request,
    request,
    setattr_request,
)
from tests.support.memory_devices import memory_device

REQUESTS = 1_000_000
VALID_EVERY = 16
SIZE = 4 * MIB
SEED = int(os.environ.get("FUSESWAP_FUZZ_SEED", "20240229"))

INODES = (0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 0x1000, 0x1005, 0x10FF, 0x2000, 0x2001, 0x2FFF, 1 << 63)
NUMBERS = (
    0, 1, 2, 3, 7, 8, 16, 17, 40, 255, 511, 512, 4095, 4096, 4097, 8192, 65536, SIZE - 4096,
    SIZE - 1, SIZE, SIZE + 1, MIB, MIB + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1,
)  # fmt: skip
SIZES = tuple(number for number in NUMBERS if number < 1 << 32)
NAMES = (
    b"swapfile\0", b"stats\0", b"metrics\0", b"loads\0", b"\0", b"", b"no\0tail", b"\xff" * 255,
    b"without end", b"../../etc/passwd\0",
)  # fmt: skip

_PUNCH_HOLE, _ZERO_RANGE = 2, 16


class Generator:
    """Cheap requests: well-formed ones made beforehand, then cut, poked and mixed."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._blob = source.randbytes(1 << 20)
        opcodes = (*range(61), *(6 * tuple(Op)), *(10 * (Op.READ, Op.WRITE, Op.FALLOCATE)))
        self._templates = [self._template(opcode) for opcode in 60 * opcodes]

    def next(self) -> bytes | bytearray:
        """One request, in whatever state."""
        chance = self._source.random()
        if chance < 0.12:  # noise
            start = int(chance * 8_000_000)
            return self._blob[start : start + self._source.randrange(200)]
        message = bytearray(self._source.choice(self._templates))
        if chance < 0.40:
            return message
        if chance < 0.50:  # cut, with a length that says so and without
            del message[self._source.randrange(len(message)) :]
            if chance < 0.45 and len(message) >= 4:
                struct.pack_into("<I", message, 0, len(message))
            return message
        if chance < 0.55:
            struct.pack_into("<I", message, 0, self._source.choice(SIZES))
            return message
        if chance < 0.60:  # a header, then noise
            message[HEADER.size :] = self._blob[: self._source.randrange(120)]
            struct.pack_into("<I", message, 0, len(message))
            return message
        for _ in range(1 if chance < 0.8 else 3):
            self._poke(message)
        return message

    def _poke(self, message: bytearray) -> None:
        """Change one field; 16 to 23 are the inode, 4 to 7 the opcode."""
        at = self._source.randrange(1, 24) * 4
        if at + 8 <= len(message):
            if self._source.random() < 0.5:
                struct.pack_into("<Q", message, at, self._source.choice(NUMBERS))
            else:
                struct.pack_into("<I", message, at, self._source.getrandbits(32))

    def _template(self, opcode: int) -> bytes:
        source = self._source
        inode = source.choice(INODES)
        body = source.randbytes(source.choice((0, 8, 16, 24, 40, 80)))
        unique = source.getrandbits(64)
        if opcode in (Op.READ, Op.WRITE, Op.READDIR):
            size = source.choice((0, 1, 100, 512, 4095, 4096, 4096, 4096, 8192, 12345))
            if source.random() < 0.01:
                size = MIB
            offset = source.randrange(SIZE) if source.random() < 0.7 else source.choice(NUMBERS)
            data = b""
            if opcode == Op.WRITE:
                start = source.randrange(len(self._blob) // 2)
                data = bytes(size) if source.random() < 0.2 else self._blob[start : start + size]
                size = len(data)
            body = READ_WRITE.pack(source.choice(SIZES), offset, size, 0, 0, 0, 0) + data
        elif opcode == Op.FALLOCATE:
            mode = source.choice((0, 1, 2, 3, 3, 3, 3, 16, 17, 17, 18, 64, 0xFFFFFFFF))
            length = source.choice((0, 1, 100, 4096, 8192, 100_000, *NUMBERS[-3:]))
            body = FALLOCATE.pack(0, source.randrange(SIZE), length, mode, 0)
        elif opcode == Op.SETATTR:
            valid, size = source.getrandbits(11), source.choice(NUMBERS)
            return setattr_request(inode, valid, size=size)
        elif opcode == Op.LOOKUP:
            body = source.choice(NAMES)
        elif opcode == Op.INIT:
            return init_request(source.choice((7, 7, 7, 6, 8)), source.choice((0, 30, 31, 41, 99)))
        elif opcode == Op.LSEEK:
            body = struct.pack("<QQII", 0, source.choice(NUMBERS), source.randrange(6), 0)
        elif opcode == Op.OPEN:
            flags = source.choice((0, 1, 2, os.O_TRUNC, 0xFFFFFFFF))
            body = struct.pack("<II", flags, 0)
        return request(opcode, inode, body, unique)


class Model:
    """The swapfile as the protocol says it must be by now."""

    def __init__(self) -> None:
        self.file = bytearray(SIZE)

    def judge(self, message: bytes | bytearray, reply: bytes | None) -> None:
        """Hold the reply against the protocol and take over what the request did."""
        length = len(message)
        if length < HEADER.size:
            assert reply is None, "nobody to answer"
            return
        said, opcode, unique, inode = struct.unpack_from("<IIQQ", message)
        if reply is None:
            assert opcode & 0xFF in SILENT
            return
        assert opcode not in SILENT
        size, error, echoed = REPLY.unpack_from(reply)
        assert size == len(reply)
        assert echoed == unique
        assert -512 < error <= 0
        if error:
            assert size == REPLY.size
            return
        assert said == length, "a request of another length than it says is malformed"
        if inode == SWAPFILE and opcode in (Op.READ, Op.WRITE, Op.FALLOCATE):
            self._effect(opcode, message, reply)

    def _effect(self, opcode: int, message: bytes | bytearray, reply: bytes) -> None:
        if opcode == Op.FALLOCATE:
            _, offset, length, mode, _ = FALLOCATE.unpack_from(message, HEADER.size)
            assert mode & ~1 in (_PUNCH_HOLE, _ZERO_RANGE)
            assert length
            end = min(offset + length, SIZE)
            if offset < end:
                self.file[offset:end] = bytes(end - offset)
            return
        _, offset, count, *_ = READ_WRITE.unpack_from(message, HEADER.size)
        if opcode == Op.READ:
            assert count <= MIB
            assert reply[REPLY.size :] == self.file[offset : offset + count]
            return
        data = message[HEADER.size + READ_WRITE.size :]
        assert len(data) == count
        assert offset < SIZE or not count
        written = min(count, SIZE - offset)  # across the end it is short
        assert reply[REPLY.size :] == struct.pack("<II", written, 0)
        self.file[offset : offset + written] = data[:written]


def test_the_model_alone_notices_a_wrong_answer() -> None:
    model = Model()
    write = request(Op.WRITE, SWAPFILE, READ_WRITE.pack(0, 0, 4, 0, 0, 0, 0) + b"data")
    model.judge(write, REPLY.pack(24, 0, 7) + struct.pack("<II", 4, 0))
    read = request(Op.READ, SWAPFILE, READ_WRITE.pack(0, 0, 4, 0, 0, 0, 0))
    model.judge(read, REPLY.pack(20, 0, 7) + b"data")
    with pytest.raises(AssertionError):
        model.judge(read, REPLY.pack(20, 0, 7) + bytes(4))
    with pytest.raises(AssertionError):
        model.judge(read, REPLY.pack(20, 0, 8) + b"data")
    with pytest.raises(AssertionError):
        model.judge(read, None)


@pytest.mark.timeout(900)  # 20 s of one processor, and three times that where it is shared
@pytest.mark.parametrize("seed", [SEED, SEED + 1])  # one for each of two processors
def test_a_million_requests(caplog: pytest.LogCaptureFixture, seed: int) -> None:
    source = random.Random(seed)
    generator, model = Generator(source), Model()
    seen: Counter[str] = Counter()
    with memory_device(SIZE, 32 * MIB) as device:
        kernel = FakeKernel(Tree(device))
        message: bytes | bytearray = b""
        number = 0
        try:
            for number in range(REQUESTS):
                message = generator.next()
                model.judge(message, kernel.raw(bytes(message)))
                if not number % VALID_EVERY:
                    _reset(device)
                    _valid(kernel, model, source)
                    seen["valid"] += 2
            _whole(kernel, model)
        except BaseException as exc:
            exc.add_note(f"seed {seed}, request {number}: {bytes(message[:120]).hex(' ', 4)}")
            raise
        finally:
            kernel.close()
        counters = device.transport
        assert counters.malformed_requests > REQUESTS // 10
        assert counters.failed_requests > REQUESTS // 100
        assert counters.discards > REQUESTS // 1000
        assert device.cache.reader.counters.checksum_errors == 0
    assert "unexpected error" not in caplog.text
    assert seen["valid"] >= REQUESTS // VALID_EVERY


_STARTING_VALUES = {
    "max_compression_ratio": "100",
    "recomp_algorithm": "zstd:6",
    "recompress_age_seconds": "60",
    "recompress_cpu_percent": "100",
    "dictionary_gain_percent": "3",
    "dedup": "auto",
    "writethrough": "N",
    "compressor": "lz4",
    "reserve_bytes": "4M",
    "pool_limit_bytes": "24M",
    "same_filled_pages_enabled": "Y",
    "non_same_filled_pages_enabled": "Y",
    "accept_threshold_percent": "90",
    "writeback_batch_size": "4",
    "writeback_limit_bytes": "none",
    "writeback_age_seconds": "0",
    "shrinker_enabled": "N",
    "busy_poll_us": "50",
    "eviction_policy": "default",
    "admission_policy": "default",
    "cleaning_policy": "default",
    "recompression_policy": "default",
    "exclusive_loads": "N",
    "isolate": "N",
    "tier_timeout": "30",
}


def _reset(device: Device) -> None:
    """Put back what a parameter write that happened to be valid has changed."""
    device.cache.dedup.is_forbidden = False  # for good otherwise, as is meant
    device.recompression.dictionaries._is_forbidden = False
    for parameter in PARAMETERS:
        if parameter.lasting:
            parameter.set(device, _STARTING_VALUES[parameter.name])


def _valid(kernel: FakeKernel, model: Model, source: random.Random) -> None:
    """A write and a read that the model foresees, most of them whole pages."""
    offset = source.randrange(SIZE // 4096 - 2) * 4096
    size = 4096
    if source.random() < 0.2:
        offset, size = offset + source.randrange(4096), source.randrange(1, 8192)
        size = min(size, SIZE - offset)
    data = source.randbytes(64) * (size // 64 + 1)
    body = READ_WRITE.pack(0, offset, size, 0, 0, 0, 0) + data[:size]
    reply = kernel.ask(request(Op.WRITE, SWAPFILE, body, source.getrandbits(63)))
    assert not reply.error
    model.file[offset : offset + size] = data[:size]
    _check_read(kernel, model, source.randrange(SIZE // 4096) * 4096, 4096)


def _check_read(kernel: FakeKernel, model: Model, offset: int, size: int) -> None:
    reply = kernel.ask(request(Op.READ, SWAPFILE, READ_WRITE.pack(0, offset, size, 0, 0, 0, 0)))
    assert not reply.error
    assert reply.body == model.file[offset : offset + size]


def _whole(kernel: FakeKernel, model: Model) -> None:
    for offset in range(0, SIZE, MIB):
        _check_read(kernel, model, offset, MIB)
