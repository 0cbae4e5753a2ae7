"""Samples all devices and the host, again and again, and compares each with the one before.

A sample never hangs on a device.  The statistics of a device are one file (``metrics``),
read by a child process (``linux/timed_file.py``).  A device is asked again only when it has
answered.  One that does not answer within ``patience_s`` is silent: the sample goes on
without it, and the next does not wait for it.  What it counted meanwhile is in the rates of
the sample in which it answers, over the time between its two answers.

The caller also waits for keys and signals, so it brings the function that waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseswap.cli.rates import Rates, Sample, rates
from fuseswap.cli.status import standing
from fuseswap.daemon.runtime_dir import Runtime, all_devices
from fuseswap.daemon.stripe_set import devices_named
from fuseswap.errors import HostError, in_words
from fuseswap.filesystem.metrics_text import counters_in, parse_metrics
from fuseswap.linux import process, psi, swap_area
from fuseswap.linux.timed_file import TIMEOUT_S, begin_reading

_LEAST_PATIENCE_S = 1.0

Clock = Callable[[], float]  # seconds that never go back
# Returns when one of the descriptors is readable, or after so many seconds, or before.
Wait = Callable[[Sequence[int], float], None]


@dataclass(frozen=True, slots=True)
class DeviceSnapshot:
    """One device: ``status`` as in ``fuseswap status --json``, without ``params``.

    ``rates`` are of all counters among the statistics; processor time in percent of one
    processor.  None: not known, or nothing to compare with.
    """

    status: dict[str, Any]
    rates: Rates | None
    worker_cpu_percent: float | None
    supervisor_cpu_percent: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment, ``time`` in seconds since 1970; ``traffic`` in pages."""

    time: float
    memory_some_avg10_percent: float | None
    traffic: dict[str, int]
    traffic_rates: Rates | None
    devices: list[DeviceSnapshot]


class Sampler:
    """Of all devices, or of the one ``name``, which need not be there (yet)."""

    def __init__(
        self, name: str | None, patience_s: float = TIMEOUT_S, clock: Clock = time.monotonic
    ) -> None:
        """Raises `InvalidArgument` for what is no name."""
        self._clock = clock
        self._name = None if name is None else Runtime(name).name
        self._patience_s = max(_LEAST_PATIENCE_S, min(patience_s, TIMEOUT_S))
        self._watched: dict[str, _Watched] = {}
        self._gone: list[_Question] = []
        self._traffic: Sample | None = None

    def sample(self, wait: Wait) -> Snapshot:
        """The next snapshot.  What ``wait`` raises goes through."""
        began_s = self._clock()
        statuses = self._statuses()
        for status in statuses:
            self._watched[status["name"]].ask(status)
        deadline_s = self._clock() + self._patience_s  # starting a child may have taken long
        while questions := [q for q in self._questions() if q.asked_at_s >= began_s]:
            left_s = deadline_s - self._clock()
            if left_s <= 0:
                break
            wait([question.access.fileno() for question in questions], left_s)
            for question in questions:
                question.hear()
        traffic = swap_area.traffic_pages()
        before, self._traffic = self._traffic, Sample(self._clock(), traffic)
        return Snapshot(
            time=time.time(),
            memory_some_avg10_percent=psi.some_avg10_percent(),
            traffic=traffic,
            traffic_rates=rates(before, self._traffic),
            devices=[self._watched[status["name"]].snapshot(status) for status in statuses],
        )

    def close(self) -> None:
        """No child process stays longer than it must."""
        for question in self._questions():
            question.access.kill()

    def _questions(self) -> list[_Question]:
        """Those without an answer."""
        asked = (watched.question for watched in self._watched.values())
        return [question for question in asked if question and not question.has_ended]

    def _statuses(self) -> list[dict[str, Any]]:
        """The devices there are now; remembers the new ones and forgets those that went."""
        statuses = []
        for runtime in devices_named(self._name) if self._name else all_devices():
            with suppress(HostError):  # gone, or not there yet
                statuses.append(standing(runtime))
        before = self._watched
        names = [status["name"] for status in statuses]
        self._watched = {name: before.get(name) or _Watched(self._clock) for name in names}
        for name, watched in before.items():
            if name not in names and watched.question and not watched.question.has_ended:
                watched.question.access.kill()
                self._gone.append(watched.question)
        for question in self._gone:
            question.hear()
        self._gone = [question for question in self._gone if not question.has_ended]
        return statuses


class _Question:
    """A device was asked for its statistics; the answer, once it has come."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self.access = begin_reading(path)
        self.asked_at_s = clock()
        self.has_ended = False
        self.statistics: dict[str, int] | None = None
        self.counters: set[str] = set()  # those of them that only grow
        self.failure: str | None = None
        self.answered_at_s = 0.0

    def hear(self) -> None:
        """Take what there is of the answer."""
        while not self.has_ended and self.access.is_ready():
            try:
                content = self.access.advance()
            except OSError as exc:
                self.failure = in_words(exc)
            else:
                if content is None:
                    continue
                text = content.decode()
                self.statistics, self.counters = parse_metrics(text), counters_in(text)
            self.has_ended = True
            self.answered_at_s = self._clock()


class _Watched:
    """One device, remembered between two samples."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.question: _Question | None = None
        self._answer: Sample | None = None
        self._processors: dict[str, Sample] = {}

    def ask(self, status: dict[str, Any]) -> None:
        """Ask for the statistics, unless a former question still waits, or no worker would."""
        if self.question:
            self.question.hear()
            if not self.question.has_ended:
                return
        running = status["status"] == "running"
        path = Path(status["mountpoint"]) / "metrics"
        self.question = _Question(path, self._clock) if running else None

    def snapshot(self, status: dict[str, Any]) -> DeviceSnapshot:
        """The device with what it has answered."""
        changes = None
        if status["status"] == "running" and self.question:
            if self.question.statistics is not None:
                status["stats"] = self.question.statistics
                changes = self._compare(self.question)
            else:
                waited_s = self._clock() - self.question.asked_at_s
                reason = self.question.failure or f"no answer for {waited_s:.0f} s"
                status.update(status="silent", reason=reason)
        return DeviceSnapshot(
            status,
            changes,
            self._processor_percent("worker", status["worker_pid"]),
            self._processor_percent("supervisor", status["supervisor_pid"]),
        )

    def _compare(self, question: _Question) -> Rates | None:
        assert question.statistics is not None
        counters = {
            name: number
            for name, number in question.statistics.items()
            if name.partition(".")[0] in question.counters  # a label's value may follow
        }
        before, self._answer = self._answer, Sample(question.answered_at_s, counters)
        return rates(before, self._answer)

    def _processor_percent(self, who: str, pid: int | None) -> float | None:
        used_s = process.used_seconds(pid) if pid else None
        if pid is None or used_s is None:
            self._processors.pop(who, None)
            return None
        sample = Sample(self._clock(), {"cpu": used_s}, source=pid)
        changes = rates(self._processors.get(who), sample)
        self._processors[who] = sample
        return None if changes is None else changes.per_second["cpu"] * 100
