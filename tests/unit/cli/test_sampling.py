"""Samples of devices that answer, answer late, fail, come and go: a FIFO plays the device."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fuseswap.cli import sampling
from fuseswap.cli.sampling import DeviceSnapshot, Sampler
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.filesystem.openmetrics import metric_name
from fuseswap.filesystem.statistics import STATISTICS


def metrics(loads: int) -> str:
    """The file as a worker would have it."""
    names = [(metric_name(statistic), statistic.name) for statistic in STATISTICS]
    return "".join(f"{name} {loads if own == 'loads' else 1}\n" for name, own in names) + "# EOF\n"


class Host:
    """Devices by name; what `standing` says of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.devices: dict[str, dict[str, Any]] = {}

    def add(self, name: str, status: str = "running") -> Path:
        """Its ``metrics``, not there yet."""
        (self._root / name).mkdir()
        (self._root / name / "config.json").write_text("{}")
        self.devices[name] = {
            "name": name,
            "status": status,
            "reason": None,
            "mountpoint": str(self._root / name),
            "worker_pid": os.getpid(),
            "supervisor_pid": 0,
            "stats": {},
        }
        return self._root / name / "metrics"

    def remove(self, name: str) -> None:
        (self._root / name / "config.json").unlink()
        del self.devices[name]

    def standing(self, runtime: Runtime) -> dict[str, Any]:
        if runtime.name not in self.devices:
            raise HostError("gone")
        return dict(self.devices[runtime.name])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path)
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(sampling, "standing", found.standing)
    return found


class Clock:
    """Seconds that pass only where a test waits in vain."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.silent = 0  # devices that will not answer

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def wait(self, fds: Sequence[int], timeout_s: float) -> None:
        """Until there is an answer; where none is to come, all of the time passes at once."""
        if len(fds) > self.silent:
            assert select.select(list(fds), [], [], 10)[0]
        else:
            self.now_s += timeout_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(clock: Clock) -> Iterator[Callable[..., Sampler]]:
    every: list[Sampler] = []

    def make(name: str | None = None) -> Sampler:
        every.append(Sampler(name, patience_s=1.0, clock=clock))
        return every[-1]

    yield make
    for sampler in every:
        sampler.close()
    while every:
        every.pop()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # children that were killed are reaped
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
    raise AssertionError("a child stays")


def wait(fds: Sequence[int], timeout_s: float) -> None:
    select.select(list(fds), [], [], timeout_s)


def never(fds: Sequence[int], timeout_s: float) -> None:
    raise AssertionError("there is nothing to wait for")


def only(devices: list[DeviceSnapshot]) -> DeviceSnapshot:
    (device,) = devices
    return device


def test_rates_come_with_the_second_sample(
    host: Host, made: Callable[..., Sampler], clock: Clock
) -> None:
    path = host.add("a")
    path.write_text(metrics(100))
    sampler = made()
    first = sampler.sample(clock.wait)
    assert only(first.devices).status["stats"]["loads"] == 100
    assert only(first.devices).rates is None
    assert first.traffic_rates is None
    path.write_text(metrics(300))
    second = sampler.sample(clock.wait)
    device = only(second.devices)
    assert device.rates is not None
    assert device.rates.per_second["loads"] == pytest.approx(200 / device.rates.seconds)
    assert "stored_pages" not in device.rates.per_second  # a gauge
    assert device.worker_cpu_percent is not None
    assert device.supervisor_cpu_percent is None
    assert second.traffic_rates is not None
    assert set(second.traffic_rates.per_second) == {"pswpin", "pswpout"}


def test_a_device_that_does_not_answer_is_silent_and_waited_for_once(
    host: Host, made: Callable[..., Sampler], clock: Clock
) -> None:
    path = host.add("a")
    os.mkfifo(path)
    sampler = made()
    clock.silent = 1
    began_s = clock.now_s
    assert only(sampler.sample(clock.wait).devices).status["status"] == "silent"
    assert clock.now_s - began_s == pytest.approx(1.0, abs=1e-3)
    again = only(sampler.sample(never).devices)
    assert again.status["status"] == "silent"
    assert again.status["reason"].startswith("no answer for")
    with open(path, "w") as file:  # the child that was left waiting reads this
        file.write(metrics(100))
    path.unlink()
    path.write_text(metrics(200))
    late = sampler._watched["a"].question
    assert late is not None
    clock.silent = 0
    while not late.has_ended:
        wait([late.access.fileno()], 10)
        late.hear()
    assert only(sampler.sample(clock.wait).devices).status["stats"]["loads"] == 200


def test_others_are_shown_meanwhile(host: Host, made: Callable[..., Sampler], clock: Clock) -> None:
    clock.silent = 1
    os.mkfifo(host.add("a"))
    host.add("b").write_text(metrics(5))
    states = {d.status["name"]: d.status["status"] for d in made().sample(clock.wait).devices}
    assert states == {"a": "silent", "b": "running"}


def test_a_read_that_fails_says_why(host: Host, made: Callable[..., Sampler], clock: Clock) -> None:
    host.add("a")
    device = only(made().sample(clock.wait).devices)
    assert device.status["status"] == "silent"
    assert "No such file" in device.status["reason"]


@pytest.mark.parametrize("state", ["degraded", "dead", "starting"])
def test_nobody_is_asked_who_would_not_answer(
    host: Host, made: Callable[..., Sampler], state: str
) -> None:
    os.mkfifo(host.add("a", state))
    device = only(made().sample(never).devices)
    assert (device.status["status"], device.status["stats"], device.rates) == (state, {}, None)


def test_devices_come_and_go(host: Host, made: Callable[..., Sampler], clock: Clock) -> None:
    sampler = made()
    clock.silent = 1
    assert sampler.sample(never).devices == []
    os.mkfifo(host.add("a"))
    assert len(sampler.sample(clock.wait).devices) == 1
    host.remove("a")
    assert sampler.sample(never).devices == []
    while sampler._gone:  # its child was killed, and is reaped by a later sample
        wait([question.access.fileno() for question in sampler._gone], 10)
        sampler.sample(never)


def test_a_named_one_need_not_be_there(
    host: Host, made: Callable[..., Sampler], clock: Clock
) -> None:
    sampler = made("b")
    host.add("a").write_text(metrics(1))
    assert sampler.sample(never).devices == []
    host.add("b").write_text(metrics(1))
    assert only(sampler.sample(clock.wait).devices).status["name"] == "b"
    with pytest.raises(InvalidArgument):
        made("no/name")
