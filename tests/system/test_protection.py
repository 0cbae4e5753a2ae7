"""Never depend on yourself: what `status` says of supervisor and worker is what /proc says."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime, runtime_root
from tests.support.mounted_devices import (
    AS_NOBODY,
    TRANSPORTS,
    TestDevice,
    call,
    device_up,
    fuseswap_command,
    new_name,
    run,
    taken_down,
)

_PF_MEMALLOC_NOIO = 0x00080000  # include/linux/sched.h; what PR_SET_IO_FLUSHER sets


_CAP_SYS_RESOURCE = 24


def may_set_resources() -> bool:
    """Whether this root has CAP_SYS_RESOURCE (many containers and virtual machines do not)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    raise AssertionError("no CapEff")


@pytest.fixture(scope="module", params=TRANSPORTS)
def device(request: pytest.FixtureRequest) -> Iterator[TestDevice]:
    with device_up("--size", "256M", "--no-swapon", transport=request.param) as up:
        yield up


def kib_of(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(field)


def io_flusher(pid: int) -> bool:
    flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])
    return bool(flags & _PF_MEMALLOC_NOIO)


@pytest.mark.no_swap
def test_memory_is_locked(device: TestDevice) -> None:
    status = device.status()
    assert status["memory_locked"] is True
    assert status["supervisor_protection"]["memory_locked"] is True
    for pid in (status["worker_pid"], status["supervisor_pid"]):
        assert kib_of(pid, "VmLck") > 0
        assert kib_of(pid, "VmSwap") == 0
    assert status["memory"] in ("tmpfs", "sysv"), "unevictable without a worker, too"


@pytest.mark.no_swap
def test_neither_leaves_a_core_dump_with_the_key(device: TestDevice) -> None:
    status = device.status()
    for pid in (status["worker_pid"], status["supervisor_pid"]):
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (line,) = (line for line in limits if line.startswith("Max core file size"))
        assert line.split()[4:6] == ["1", "1"]
        assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0


def test_its_files_are_private_though_the_umask_is_not() -> None:
    """``config.json``, the log with its slot words, locks, the socket, the mountpoint."""
    name = new_name()
    command = fuseswap_command("up", name, "--size", "64M", "--no-swapon")
    with taken_down(name):
        done = run(["sh", "-c", 'umask 0; exec "$@"', "sh", *command])
        assert done.returncode == 0, done.stderr
        runtime = Runtime(name)
        below = [*runtime.directory.iterdir(), runtime_root() / f".{name}.lock"]
        found = {path.name: path.stat() for path in below if path.name != "mnt"}
        assert {"config.json", "state.json", "log", "loop", "control"} <= found.keys()
        assert {stat.S_IMODE(one.st_mode) for one in found.values()} == {0o600}
        for directory in (runtime_root(), runtime.directory):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        status = runtime.state()
        for pid in (status.worker_pid, status.standby_pid, status.supervisor_pid):
            assert "\nUmask:\t0077\n" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.no_swap
def test_io_flusher_and_oom_are_set_where_they_may_be(device: TestDevice) -> None:
    status = device.status()
    permitted = may_set_resources()
    for said in (status, status["supervisor_protection"]):
        assert said["io_flusher"] is permitted
        assert (said["oom_score_adj"] == -1000) is permitted
    for pid in (status["worker_pid"], status["supervisor_pid"]):
        assert io_flusher(pid) is permitted
        assert (Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "-1000") is permitted


def test_check_finds_this_host_fit() -> None:
    done = call("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAIL" not in done.stdout
    assert done.stdout.splitlines()[-1] == "this host is fit"


def test_check_finds_an_unfit_host() -> None:
    done = run([*AS_NOBODY, *fuseswap_command("check")])
    assert done.returncode == 2
    assert "not root" in done.stderr
    assert len(done.stderr.splitlines()) == 1
