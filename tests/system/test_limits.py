"""`up` under limits that are too low: raised, or refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import mount
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    call,
    fuseswap_command,
    leftovers,
    new_name,
    run,
    succeed,
    taken_down,
)

pytestmark = pytest.mark.no_swap

UP = ("--size", "64M", "--pool-limit", "32M", "--no-swapon", "--tune", "off")
# Beyond what a hard limit allows only CAP_SYS_RESOURCE goes; these take it away.
BOUND = ("setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource")


@pytest.mark.parametrize(
    "limit",
    ["stack=131072:", "nofile=20:1024", "as=100000000:", "data=80000000:", "fsize=1000000:",
     "cpu=1:", "rttime=1000:", "rtprio=0:", "nproc=1:", "memlock=65536:"],
)  # fmt: skip
def test_a_soft_limit_is_raised(limit: str) -> None:
    name = new_name()
    with taken_down(name):
        done = run(["prlimit", f"--{limit}", *fuseswap_command("up", name, *UP)])
        assert done.returncode == 0, done.stderr
        (Path(Runtime(name).default_mountpoint) / "swapfile").open("rb").close()
        succeed("down", name)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("stack=131072:131072", "stack size is 128K"),
        ("nofile=16:16", "open files is 16"),
        ("nofile=20:20", "open files is 20"),
        ("as=400000000:400000000", "address space is 381.5M"),
        ("data=80000000:80000000", "data size is 76.3M"),
        ("fsize=1000000:1000000", "file size is 976.6K"),
        ("cpu=10:10", "processor time is 10"),
        ("rttime=1000000:1000000", "real-time processor time is 1000000"),
    ],
)
def test_a_hard_limit_is_refused(limit: str, said: str) -> None:
    name = new_name()
    with taken_down(name):
        done = run([*BOUND, "prlimit", f"--{limit}", *fuseswap_command("up", name, *UP)])
        assert done.returncode == 2, done
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert leftovers(name, str(Runtime(name).default_mountpoint)) == []


def test_a_small_memory_cgroup_is_refused() -> None:
    name = new_name()
    with taken_down(name), MemoryCgroup(f"fuseswap-{name}", 64 * MIB) as cgroup:
        enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(cgroup.path / "cgroup.procs")]
        options = (*UP, "--pool-limit", "256M")
        done = run([*enter, *fuseswap_command("up", name, *options)])
        assert done.returncode == 2
        assert f"fuseswap-{name} is limited to 64M" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert leftovers(name, str(Runtime(name).default_mountpoint)) == []


def test_down_clears_a_mount_without_a_configuration() -> None:
    name = new_name()
    runtime = Runtime(name)
    mountpoint = str(runtime.default_mountpoint)
    with taken_down(name):
        runtime.default_mountpoint.mkdir(parents=True)
        done = run(["python3", "-c", f"""
import os
from fuseswap.linux import mount
mount.mount({mountpoint!r})
"""])  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert mount.is_mounted(mountpoint)
        assert call("down", name).returncode == 0
        assert leftovers(name, mountpoint) == []
