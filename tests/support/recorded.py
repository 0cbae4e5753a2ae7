"""A real device with a tier, traced while it is under pressure; and its simulation.

Both say the same three numbers, `Outcome`.  What the device did comes from its own counters, and
where its loads were answered from its trace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fuseswap.laboratory.sim_config import config_from
from fuseswap.laboratory.simulation import simulate
from fuseswap.laboratory.trace_extent import extent_of
from fuseswap.laboratory.trace_format import Event, TraceReader
from fuseswap.laboratory.trace_summary import summarize
from tests.support.mounted_devices import TestDevice, device_up, succeed

TIER = "first"
_LOOK_S = 0.25


class Outcome(NamedTuple):
    """Loads answered from memory of all loads; bytes written to the tier; mean bytes of memory."""

    hit_ratio: float
    written_bytes: int
    memory_bytes: float

    def differences(self, other: Outcome) -> dict[str, float]:
        """Of each number the share by which ``other`` is away from this."""
        pairs = zip(self._fields, self, other, strict=True)
        return {name: abs(theirs / mine - 1) for name, mine, theirs in pairs}


def record(
    trace: Path, tier: Path, up: tuple[str, ...], tier_size: str, work: Callable[[TestDevice], None]
) -> Outcome:
    """Bring a device up, with a tier in the file ``tier``, and trace ``work`` on it."""
    options = ("--tier", f"file:{tier},name={TIER},size={tier_size}")
    with device_up(*up, *options) as device:
        succeed("trace", "start", device.name, "--to", str(trace))
        with _Looks(device) as looks:
            work(device)
        assert " 0 dropped" in succeed("trace", "stop", device.name)
        written = device.stat(f"tier_written_bytes.{TIER}")
    with trace.open("rb") as file:
        summary = summarize(TraceReader(file).events())
    hits = summary.places.get("memory", 0) / summary.loads
    return Outcome(hits, written, looks.mean)


class _Looks:
    """Reads ``mem_used_total`` again and again, in a thread."""

    def __init__(self, device: TestDevice) -> None:
        self._device = device
        self._over = threading.Event()
        self._found: list[int] = []
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Looks:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._found.append(self._device.stat("mem_used_total"))

    @property
    def mean(self) -> float:
        return sum(self._found) / len(self._found)


def simulated(trace: Path, device: dict[str, str], tier_size: str) -> Outcome:
    """The same by `fuseswap simulate`, with ``device`` for the section of that name."""

    def events() -> Iterator[Event]:
        with trace.open("rb") as file:
            yield from TraceReader(file).events()

    sections = {"device": device, f"tier {TIER}": {"size": tier_size, "read-us": "250"}}
    results = simulate(events, config_from("same", sections), extent_of(events()))
    return Outcome(results.hit_ratio, results.written[TIER], results.memory_mean)
