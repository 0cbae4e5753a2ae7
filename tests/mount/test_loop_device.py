"""A loop device is known by what is attached to it, not by the text of a path."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fuseswap.daemon.device_info import loop_of
from fuseswap.daemon.host_watch import HostWatch
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import loop
from tests.support.mounted_devices import TestDevice, call, device_mounted, device_up, must, succeed

# In a mount namespace of its own another file has the very path of the swapfile.
_ELSEWHERE = """
set -e
mount -t tmpfs none "$1"
truncate -s 16M "$1/swapfile"
losetup --find --show "$1/swapfile"
exec sleep infinity
"""


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def attach_elsewhere(held: ExitStack, mountpoint: Path) -> str:
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", _ELSEWHERE]
    process = held.enter_context(
        subprocess.Popen([*command, "sh", str(mountpoint)], stdout=subprocess.PIPE, text=True)
    )
    held.callback(process.kill)
    assert process.stdout is not None
    device = process.stdout.readline().strip()
    held.callback(must, "losetup", "--detach", device)
    return device


def test_a_file_of_the_same_path_in_another_namespace_is_another(
    held: ExitStack, tmp_path: Path
) -> None:
    with device_mounted(tmp_path, "size=64M") as device:
        other = attach_elsewhere(held, tmp_path)
        assert loop.backing_of(other) == str(device.swapfile)
        assert loop.find(str(device.swapfile)) is None
        assert device.status()["loop"] is None
        ours = loop.attach(str(device.swapfile))
        try:
            assert loop.find(str(device.swapfile)) == ours
            assert loop_of(Runtime(device.name)) == ours
            assert not loop.is_of(other, str(device.swapfile))
        finally:
            succeed("down", device.name)
        assert loop.backing_of(ours) is None
        assert loop.backing_of(other) == str(device.swapfile)


def queue_of(watch: HostWatch) -> str | None:
    watch.look()
    if watch.queue_file < 0:
        return None
    return os.readlink(f"/proc/self/fd/{watch.queue_file}")


def test_a_worker_counts_the_requests_of_its_own_device(held: ExitStack, tmp_path: Path) -> None:
    with device_mounted(tmp_path, "size=64M") as device:
        other = attach_elsewhere(held, tmp_path)
        watch = HostWatch(str(device.swapfile))
        watch.expect_no_faults()
        assert loop.backing_of(other) == str(device.swapfile)
        assert queue_of(watch) is None
        for _ in range(2):  # the second time what was found is no more
            ours = loop.attach(str(device.swapfile))
            found = queue_of(watch)
            assert found is not None
            assert Path(found).parent.name == Path(ours).name
            assert queue_of(watch) == found
            loop.detach(ours)
            assert queue_of(watch) is None
        succeed("down", device.name)


def attach_another(device: TestDevice, path: Path) -> None:
    """To the loop device that `up` noted, in place of what it attached."""
    must("losetup", "--detach", device.loop)
    path.touch()
    must("truncate", "-s", "16M", str(path))
    must("losetup", device.loop, str(path))


def test_a_number_that_is_used_again_is_another_device(held: ExitStack, tmp_path: Path) -> None:
    """Its file is called ``/swapfile``, as that of a device which was unmounted lazily."""
    root = tmp_path / "root"
    root.mkdir()
    with device_up("--size", "64M", "--no-swapon") as device:
        runtime = Runtime(device.name)
        noted, sequence = runtime.noted_loop()
        assert noted == device.loop
        assert sequence == loop.sequence(device.loop)
        attach_another(device, root / "swapfile")
        held.callback(must, "losetup", "--detach", device.loop)
        assert loop_of(runtime) is None
        done = call("down", device.name)
        assert (done.returncode, done.stderr) == (0, "")
        assert loop.backing_of(device.loop) == str(root / "swapfile")
