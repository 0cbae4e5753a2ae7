"""Tier processes come, are replaced, and go, whatever has happened to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon import attachment, remote_files, strays, tier_processes
from fuseswap.daemon.attachment import TIER, Attached, Attachment
from fuseswap.daemon.remote_files import Looked
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.tier_processes import TierProcesses
from fuseswap.linux.watermarks import Watermarks
from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.tier_spec import TierSpec
from fuseswap.units import MIB

pytestmark = pytest.mark.slow

WITHIN_S = 60.0


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def eventually(what: str, holds: object) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not (callable(holds) and holds()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Host:
    """What the supervisor has: attachments, and the processes of those that need one."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        self.attached = Attached()
        runtime = Runtime("swap0")
        runtime.directory.mkdir(parents=True, exist_ok=True)
        self.log = runtime.log_path
        self.processes = TierProcesses(runtime, self.attached, self.said.append, testing=True)
        self.directory = directory

    def attach(self, name: str) -> Attachment:
        leaf = TierSpec(name, "files", str(self.directory))
        fds, described = remote_files.open_remote(leaf, "swap0", name, 8 * MIB)
        described["fds"] = [0, 1, 2]
        one = Attachment(TIER + name, tuple(fds), {"leaves": [described]})
        self.attached.add(one)
        return one

    def remove(self, one: Attachment) -> None:
        """As the supervisor does it: its own descriptors are closed at once."""
        self.attached.remove(one)
        attachment.close(one.fds)
        self.processes.look_again()

    def close(self) -> None:
        self.processes.stop(forget=False)
        for one in self.attached.now:
            attachment.close(one.fds)


def identity_of(one: Attachment) -> str:
    found: str = one.description["leaves"][0]["identity"]["id"]
    return found


def pids(one: Attachment) -> list[int]:
    return strays.tier_processes_of(identity_of(one))


def beats(one: Attachment, after: int = 0) -> int:
    """The incarnation that runs, once it is another one than ``after``."""

    def incarnation() -> int:
        return wire.read_pulse(one.fds[2])[0]

    eventually("a pulse", lambda: incarnation() not in (0, after))
    return incarnation()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Its processes have `tests.support.tier_clients`, and look often."""
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    monkeypatch.setattr(tier_processes, "_MODULE", "tests.support.tier_clients")
    monkeypatch.setattr(strays, "_TIER_MODULE", b"tests.support.tier_clients")
    monkeypatch.setattr(tier_processes, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(remote_files, "look_at", lambda leaf: Looked(True, []))
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "rules-of-client").touch()
    host = Host(directory)
    try:
        yield host
    finally:
        host.close()


def test_there_is_no_thread_without_a_remote_tier(host: Host) -> None:
    host.processes.start()
    assert not host.processes._thread.is_alive()


def test_one_that_is_killed_is_replaced(host: Host) -> None:
    one = host.attach("far")
    host.processes.start()
    before = beats(one)
    (pid,) = pids(one)
    os.kill(pid, signal.SIGKILL)
    assert beats(one, before)
    assert pids(one) != [pid]
    assert any(f"tier process {pid} ended with -9" in line for line in host.said)


def test_it_is_told_how_long_a_write_may_take(host: Host) -> None:
    one = host.attach("far")
    one.description["leaves"][0]["write_timeout_s"] = 6.0
    host.processes.start()
    beats(one)
    (pid,) = pids(one)
    said = json.loads(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2])
    assert said["write_timeout_s"] == 6.0


def test_each_has_its_own_and_late_ones_too(host: Host) -> None:
    one = host.attach("one")
    host.processes.start()
    beats(one)
    two = host.attach("two")
    host.processes.look_again()
    beats(two)
    assert len(pids(one)) == len(pids(two)) == 1
    assert pids(one) != pids(two)


@pytest.mark.slow
def test_one_that_stands_still_is_killed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one = host.attach("far")
    host.processes.start()
    before = beats(one)
    (pid,) = pids(one)
    monkeypatch.setattr(tier_processes, "PULSE_LOST_S", 2.0)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(tier_processes, "PULSE_LOST_S", wire.PULSE_LOST_S)
    time.sleep(0.5)
    assert pids(one) == [pid], "not before its time"
    monkeypatch.setattr(tier_processes, "PULSE_LOST_S", 1.0)
    assert beats(one, before)
    assert any(f"tier process {pid} stands still: killed" in line for line in host.said)


@pytest.mark.slow
def test_where_memory_is_short_it_has_more_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one would have to be imported, and would wait just the same."""
    looks: list[bool] = []

    def are_near(watermarks: Watermarks) -> bool:
        looks.append(True)
        return True

    monkeypatch.setattr(Watermarks, "are_near", are_near)
    monkeypatch.setattr(tier_processes, "PULSE_LOST_S", 0.6)
    one = host.attach("far")
    host.processes.start()
    before = beats(one)
    (pid,) = pids(one)
    os.kill(pid, signal.SIGSTOP)
    eventually("it is late", lambda: len(looks) >= 2)
    assert pids(one) == [pid]
    monkeypatch.setattr(tier_processes, "_SHORT_S", 1.0)
    assert beats(one, before)


@pytest.mark.slow
def test_one_of_a_former_supervisor_is_ended_first(host: Host) -> None:
    """Two would both read the one end of the socket."""
    one = host.attach("far")
    host.processes.start()
    before = beats(one)
    (stray,) = pids(one)
    later = TierProcesses(Runtime("swap0"), host.attached, host.said.append, testing=True)
    later.start()
    try:
        assert beats(one, before)
        eventually("its end", lambda: stray not in pids(one))
    finally:
        later.stop(forget=False)


@pytest.mark.parametrize("runs", [True, False])
def test_a_tier_that_goes_takes_everything_with_it(host: Host, runs: bool) -> None:
    """Process, descriptors and what it holds; the last only where the process runs just now."""
    first = host.attach("first")
    host.processes.start()
    beats(first)
    before = open_descriptors()
    one = host.attach("far")
    (host.directory / "1-1").touch()
    host.processes.look_again()
    beats(one)
    if not runs:
        host.processes._processes[identity_of(one)].not_before = time.monotonic() + 1e6
        host.processes._processes[identity_of(one)].pause_s = 1e6
        (pid,) = pids(one)
        os.kill(pid, signal.SIGKILL)
        eventually("its end", lambda: any(f"{pid} ended" in line for line in host.said))
    host.remove(one)
    eventually("it to be gone", lambda: identity_of(one) not in host.processes._processes)
    eventually("its process to end", lambda: not pids(one))
    eventually("its descriptors to be closed", lambda: open_descriptors() == before)
    assert (host.directory / "1-1").exists() is not runs
    assert len(pids(first)) == 1


@pytest.mark.parametrize("forget", [True, False])
def test_at_the_end_they_forget_if_told_so(host: Host, forget: bool) -> None:
    one = host.attach("far")
    host.processes.start()
    beats(one)
    (host.directory / "1-1").touch()
    host.processes.stop(forget=forget)
    assert not pids(one)
    assert (host.directory / "1-1").exists() is not forget


@pytest.mark.slow
def test_one_that_cannot_start_is_tried_again_later_each_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier_processes, "_MODULE", "tests.support.no_such_module")
    one = host.attach("far")
    began = time.monotonic()
    host.processes.start()
    eventually("three tries", lambda: sum("ended with 1" in line for line in host.said) == 3)
    assert time.monotonic() - began >= 0.4 + 0.8
    monkeypatch.setattr(tier_processes, "_MODULE", "tests.support.tier_clients")
    with contextlib.suppress(FileNotFoundError):
        assert "no_such_module" in host.log.read_text()
    assert beats(one)


def test_a_step_that_fails_is_tried_again_after_a_pause(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`start` has woken the thread, and a failed step does not hear that."""
    steps = []

    def fail() -> None:
        steps.append(time.monotonic())
        raise ValueError("a mistake")

    monkeypatch.setattr(host.processes, "_step", fail)
    host.attach("far")
    host.processes.start()
    eventually("a step", lambda: bool(steps))
    time.sleep(0.5)
    assert len(steps) <= 2
