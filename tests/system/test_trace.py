"""``fuseswap trace`` on a running device: what it is asked for, beyond the death of a worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    succeed,
    wait_until,
    worker_of,
)

pytestmark = pytest.mark.no_swap
_PAGES = 64


@pytest.fixture
def device() -> Iterator[TestDevice]:
    with device_up("--size", "64M", "--no-swapon") as up:
        yield up


def write(device: TestDevice, first: int) -> None:
    with device.swapfile.open("r+b", buffering=0) as file:
        for page in range(first, first + _PAGES):
            os.pwrite(file.fileno(), pages.compressible(page), page * PAGE_SIZE)


def read(device: TestDevice, first: int) -> None:
    with device.swapfile.open("rb", buffering=0) as file:
        for page in range(first, first + _PAGES):
            assert os.pread(file.fileno(), PAGE_SIZE, page * PAGE_SIZE) == pages.compressible(page)


def summary(trace: Path) -> dict[str, Any]:
    return dict(json.loads(succeed("trace", "summary", str(trace), "--json")))


def test_a_trace_outlives_the_worker(device: TestDevice, tmp_path: Path) -> None:
    trace = tmp_path / "one.trace"
    write(device, 0)
    assert "is traced to" in succeed("trace", "start", device.name, "--to", str(trace))
    write(device, _PAGES)
    read(device, _PAGES)
    before = worker_of(device.name)
    os.kill(before, signal.SIGKILL)
    wait_until("another worker", lambda: worker_of(device.name) != before)
    read(device, 0)
    assert "0 dropped" in succeed("trace", "stop", device.name)
    write(device, 0)

    found = summary(trace)
    assert found["stores"] == _PAGES
    assert found["loads"] == 2 * _PAGES
    assert found["places"] == {"memory": 2 * _PAGES}
    assert found["pages"] == 2 * _PAGES
    assert found["dropped"] == 0
    assert str(_PAGES) in succeed("trace", "show", str(trace), "--first", "1")


def test_a_trace_ends_with_its_device(tmp_path: Path) -> None:
    trace = tmp_path / "one.trace"
    with device_up("--size", "64M", "--no-swapon") as device:
        succeed("trace", "start", device.name, "--to", str(trace))
        write(device, 0)
        assert summary(trace)["ended"] == "not yet"
    wait_until("the file", lambda: summary(trace)["ended"] != "not yet")
    found = summary(trace)
    assert found["ended"] == "the device was taken down"
    assert (found["stores"], found["dropped"]) == (_PAGES, 0)


def test_what_it_refuses(device: TestDevice, tmp_path: Path) -> None:
    trace = tmp_path / "one.trace"
    refused = call("trace", "stop", device.name)
    assert refused.returncode == 1
    assert "is not traced" in refused.stderr
    trace.write_bytes(b"something of somebody")
    assert call("trace", "start", device.name, "--to", str(trace)).returncode == 2
    assert trace.read_bytes() == b"something of somebody"
    succeed("trace", "start", device.name, "--to", str(tmp_path / "two.trace"))
    again = call("trace", "start", device.name, "--to", str(tmp_path / "three.trace"))
    assert again.returncode in (1, 2)
    assert not (tmp_path / "three.trace").exists()
    succeed("trace", "stop", device.name)
