"""What requests took: each is counted once, where it was answered, from read to reply."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import METRICS, Tree
from fuseswap.transport import devfuse
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.pyfuse3 import TreeOperations
from fuseswap.transport.share import Share
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.fuse_requests import Op, read_request, request, write_request

PAGE = pages.compressible(1)


class Clock:
    """Stands still, but for what ``step_ns`` says a look takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
        self.now = 0
        self.step_ns = step_ns
        monkeypatch.setattr(devfuse, "perf_counter_ns", self.look)
        monkeypatch.setattr(devfuse, "_STRETCH_NS", 1 << 60)

    def look(self) -> int:
        self.now += self.step_ns
        return self.now


@contextmanager
def serving(device: Device) -> Iterator[tuple[DevFuse, socket.socket]]:
    """A transport over a socket pair that does not poll."""
    device.busy_poll_us = 0
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield DevFuse(theirs.fileno(), Tree(device), share=Share(percent=100)), ours


def counted(device: Device) -> dict[tuple[str, str], int]:
    """How many of each kind there are."""
    found = device.latency.histograms()
    return {(request, place): sum(one.counts()) for request, place, one in found}


def test_loads_and_stores_are_told_apart(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, 10_000)
    with serving(device) as (transport, kernel):
        for page in range(3):
            kernel.send(write_request(page * PAGE_SIZE, PAGE))
        for _ in range(5):
            kernel.send(read_request(0, PAGE_SIZE))
        transport.drain()
    assert counted(device) == {("load", "memory"): 5, ("store", "memory"): 3}
    found = {one.request: one for one in device.latency.statistics()}
    assert 10 <= found["load"].latency_p50_us <= 11
    assert found["store"].latency_max_us <= 11


def test_one_that_is_slow_is_counted_to_the_nanosecond(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, 7_000_000)
    with serving(device) as (transport, kernel):
        kernel.send(read_request(0, PAGE_SIZE))
        transport.drain()
    (found,) = device.latency.histograms()
    assert found[:2] == ("load", "memory")
    assert found[2].longest_ns == 7_000_000


def test_other_requests_are_not_counted(device: Device) -> None:
    """A text is read with the opcode of a load, and what is malformed has it too."""
    with serving(device) as (transport, kernel):
        kernel.send(read_request(0, PAGE_SIZE))
        kernel.send(read_request(0, PAGE_SIZE, inode=METRICS))
        kernel.send(request(Op.GETATTR, 2, bytes(16)))
        kernel.send(read_request(0, 1 << 30))
        transport.drain()
    assert counted(device) == {("load", "memory"): 1}


def test_a_successor_has_what_was_folded(device: Device) -> None:
    with serving(device) as (transport, kernel):
        kernel.send(read_request(0, PAGE_SIZE))
        transport.drain()
    device.latency.fold()
    successor = Device(device.state)
    assert counted(successor) == {("load", "memory"): 1}


async def test_a_store_that_waits_is_counted_where_it_ends(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.pending_io, "has_to_wait", lambda offset, size: True)
    with serving(device) as (transport, kernel):
        kernel.send(write_request(0, PAGE))
        transport.drain()
        assert counted(device) == {}
        with trio.fail_after(30):
            while device.pending_io.waiting_bytes:
                await trio.lowlevel.checkpoint()
    assert counted(device) == {("store", "waited"): 1}
    assert device.swapfile.read(0, PAGE_SIZE) == PAGE


async def test_the_other_transport_counts_the_same(device: Device) -> None:
    operations: Any = TreeOperations(Tree(device))
    assert await operations.write(0, 0, PAGE) == PAGE_SIZE
    assert await operations.read(0, 0, PAGE_SIZE) == PAGE
    assert counted(device) == {("load", "memory"): 1, ("store", "memory"): 1}
