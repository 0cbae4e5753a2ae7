"""The teardown of `device_up`: a test that fails with its device in any state leaves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from fuseswap.linux import loop, swap_area
from tests.support.mounted_devices import (
    TestDevice,
    device_up,
    kill_all,
    leftovers,
    processes_of,
    strangers_elsewhere,
    wait_until,
)

Break = Callable[[TestDevice, ExitStack], None]


@pytest.fixture(scope="module", autouse=True)
def _strangers() -> Iterator[None]:
    with strangers_elsewhere():
        yield


def kill(device: TestDevice, which: str) -> None:
    pid = device.info[which]
    os.kill(pid, signal.SIGKILL)
    wait_until("it to end", lambda: pid not in processes_of(device.name))


def nobody_serves(device: TestDevice, held: ExitStack) -> None:
    kill_all(device.name)


def nobody_answers(device: TestDevice, held: ExitStack) -> None:
    """Nor does anybody see to it."""
    kill(device, "supervisor_pid")
    for pid in processes_of(device.name):
        os.kill(pid, signal.SIGSTOP)


def the_mount_is_busy(device: TestDevice, held: ExitStack) -> None:
    held.callback(close, os.open(device.swapfile, os.O_RDONLY))


def close(fd: int) -> None:
    """Its connection is cut by then, and closing tells the server."""
    with suppress(OSError):
        os.close(fd)


def the_notes_are_gone(device: TestDevice, held: ExitStack) -> None:
    """`down` knows no such device."""
    for path in (device.mountpoint.parent / "config.json", device.mountpoint.parent / "state.json"):
        path.unlink()


class TestFailed(Exception):
    """As an assertion would."""

    __test__ = False


def fail(break_it: Break, held: ExitStack, seen: list[TestDevice]) -> None:
    with device_up("--size", "64M", "--priority", "0") as device:
        seen.append(device)
        break_it(device, held)
        raise TestFailed


@pytest.mark.parametrize(
    "break_it", [nobody_serves, nobody_answers, the_mount_is_busy, the_notes_are_gone]
)
def test_nothing_is_left(break_it: Break) -> None:
    seen: list[TestDevice] = []
    with ExitStack() as held:
        with pytest.raises(TestFailed):
            fail(break_it, held, seen)
        (device,) = seen
        assert leftovers(device.name, str(device.mountpoint)) == []
        assert swap_area.area_of(device.loop) is None
        assert loop.backing_of(device.loop) is None
