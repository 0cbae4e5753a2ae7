"""`down` works whoever is in the mountpoint or has a copy of the mount, and so does the next `up`.

Before, it failed with a shell in there; a container's copy of the mount kept the processes alive.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import loop, mount, swap_area
from tests.support.mounted_devices import (
    TestDevice,
    device_up,
    leftovers,
    must,
    processes_of,
    strangers_elsewhere,
    succeed,
)

SIZE = ("--size", "64M")
GetInTheWay = Callable[[TestDevice, ExitStack], None]


def sits_in(device: TestDevice, held: ExitStack) -> None:
    """A shell, and a process that reads statistics."""
    sits = held.enter_context(subprocess.Popen(["sleep", "600"], cwd=device.mountpoint / "stats"))
    held.callback(sits.kill)
    fd = os.open(device.mountpoint / "metrics", os.O_RDONLY)
    held.callback(close, fd)


def close(fd: int) -> None:
    """Its connection is cut by then, and closing tells the server."""
    with suppress(OSError):
        os.close(fd)


def namespace(held: ExitStack, script: str, *arguments: str) -> None:
    """A mount namespace, as of a container, with a copy of every mount there is now."""
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", *arguments]
    process = held.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
    held.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def copies_the_mount(device: TestDevice, held: ExitStack) -> None:
    namespace(held, "echo ready; exec sleep 600")


def sits_in_a_copy(device: TestDevice, held: ExitStack) -> None:
    namespace(held, 'cd "$1" && echo ready; exec sleep 600', str(device.mountpoint))


def had_it_unmounted(device: TestDevice, held: ExitStack) -> None:
    """By hand, lazily: no path leads there any more, but that of the copy."""
    copies_the_mount(device, held)
    must("umount", "--lazy", str(device.mountpoint))


def mounted_over_it(device: TestDevice, held: ExitStack) -> None:
    must("mount", "-t", "tmpfs", "none", str(device.mountpoint))


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    "get_in_the_way",
    [sits_in, copies_the_mount, sits_in_a_copy, had_it_unmounted, mounted_over_it],
)
def test_it_goes_down_and_comes_up_again(get_in_the_way: GetInTheWay, held: ExitStack) -> None:
    with device_up(*SIZE, "--no-swapon") as device:
        attached = loop.sequence(device.loop)
        get_in_the_way(device, held)
        assert succeed("down", device.name) == f"{device.name} is down\n"
        assert leftovers(device.name, str(device.mountpoint)) == []
        assert loop.sequence(device.loop) != attached
        succeed("up", device.name, *SIZE, "--no-swapon")
        assert device.stat("stored_pages") == 0
        assert device.status()["status"] == "running"
        succeed("down", device.name)


def test_with_swap_on(held: ExitStack) -> None:
    with strangers_elsewhere(), device_up(*SIZE, "--priority", "0") as device:
        sits_in(device, held)
        copies_the_mount(device, held)
        assert swap_area.area_of(device.loop)
        succeed("down", device.name)
        assert swap_area.area_of(device.loop) is None
        assert leftovers(device.name, str(device.mountpoint)) == []


def test_memory_is_in_no_mount_namespace() -> None:
    """So none can pin it, whenever its copy was made."""
    with device_up(*SIZE, "--no-swapon") as device:
        for pid in processes_of(device.name):
            with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as mounts:
                assert not [line for line in mounts if " - tmpfs fuseswap " in line]
        assert Runtime(device.name).state().memory == "tmpfs"


def test_who_has_the_path_open_elsewhere_is_not_in_the_way(held: ExitStack) -> None:
    """In a namespace of its own the path of the swapfile is another file."""
    with device_up(*SIZE, "--no-swapon") as device:
        script = 'mount -t tmpfs none "$1"; exec 7>"$1/swapfile"; echo ready; exec sleep 600'
        namespace(held, script, str(device.mountpoint))
        assert mount.users_of(str(device.swapfile), str(device.mountpoint)) == []
        with open(device.swapfile, "rb"):
            (user,) = mount.users_of(str(device.swapfile), str(device.mountpoint))
            assert f"({os.getpid()})" in user
        succeed("down", device.name)
