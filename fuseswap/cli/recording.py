"""The last hour of ``fuseswap top --record FILE``, which ``fuseswap report --record FILE`` draws.

FILE has a line that says so, and then an object of JSON a sample.  It has at most `MOST_LINES`
of these: when it is full the newer half is written over the older one, in place.  A process that
ends in between leaves lines twice, or half of one; a reader takes them once, or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fuseswap.cli.rates import Rates
from fuseswap.cli.sampling import DeviceSnapshot, Snapshot
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.units import PAGE_SIZE

HOUR_S: Final = 3600
LEAST_INTERVAL_S: Final = 1.0
KEPT_LINES: Final = 3600
MOST_LINES: Final = 2 * KEPT_LINES
MOST_BYTES: Final = 64 << 20
HEADER: Final = '{"fuseswap": "top", "version": 1}\n'
_LARGEST = 1e18

# Key in a line, and the statistic it is of; a page is 4096 bytes where the key says bytes.
GAUGES: Final = {
    "stored_bytes": "orig_data_size",
    "memory_bytes": "mem_used_total",
    "fixed_bytes": "mem_fixed",
    "elsewhere_bytes": "bd_count",
}
RATES: Final = {
    "stores_per_s": "succ_stores",
    "loads_per_s": "loads",
    "tier_loads_per_s": "tier_loads",
    "frees_per_s": "invalidates",
    "waits_per_s": "saved_by_writeback",
    "refused_per_s": "failed_stores",
    "written_bytes_per_s": "bd_writes",
    "read_bytes_per_s": "bd_reads",
}
_IN_PAGES: Final = frozenset({"bd_count", "bd_writes", "bd_reads"})
CPU: Final = "cpu_percent"
PRESSURE: Final = "pressure_percent"


@dataclass(frozen=True, slots=True)
class Moment:
    """One sample: ``time`` in seconds since 1970, and the numbers of the host and each device.

    A number that was not known is left out.
    """

    time: float
    host: dict[str, float]
    devices: dict[str, dict[str, float]]

    def total(self, names: Iterable[str], key: str) -> float | None:
        """Of those of these devices that have it; None where none has."""
        known = [self.devices[name][key] for name in names if key in self.devices.get(name, ())]
        return sum(known) if known else None


class Recording:
    """The file, as it is written.  Close it."""

    def __init__(self, path: str) -> None:
        """Goes on with a recording that is there.

        Raises `InvalidArgument` where the file is another, or another process records there, and
        `HostError`.  The file is not changed then.
        """
        self._path = path
        with self._failing():
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            with self._failing():
                self._begin()
        except BaseException:
            os.close(self._fd)
            raise

    def _begin(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise InvalidArgument(f"{self._path} is no file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidArgument(f"another `fuseswap top` records to {self._path}") from None
        lines = _lines(self._fd, self._path)
        self._count = len(lines)
        os.lseek(self._fd, 0, os.SEEK_END)
        if not lines and os.fstat(self._fd).st_size == 0:
            self._write(HEADER)
        elif os.pread(self._fd, 1, os.fstat(self._fd).st_size - 1) != b"\n":
            self._write("\n")  # of a line that was cut

    def add(self, snapshot: Snapshot) -> None:
        """Note one sample.  Raises `HostError`."""
        line = json.dumps(_as_json(snapshot), separators=(",", ":")) + "\n"
        with self._failing():
            self._write(line)
            self._count += 1
            if self._count >= MOST_LINES or os.fstat(self._fd).st_size > MOST_BYTES - len(line):
                self._shorten()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _write(self, text: str) -> None:
        left = memoryview(text.encode())
        while left:
            left = left[os.write(self._fd, left) :]

    def _shorten(self) -> None:
        kept = _lines(self._fd, self._path)[-min(KEPT_LINES, self._count // 2) :]
        text = HEADER + "".join(f"{line}\n" for line in kept)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._write(text)
        os.ftruncate(self._fd, len(text.encode()))
        self._count = len(kept)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise HostError(f"cannot record to {self._path}: {exc.strerror}") from exc


def read_recording(path: str) -> list[Moment]:
    """The moments of its last hour, in order.  Raises `InvalidArgument` or `HostError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            lines = _lines(fd, path)
        finally:
            os.close(fd)
    except OSError as exc:
        raise HostError(f"cannot read {path}: {exc.strerror}") from exc
    by_time = {moment.time: moment for line in lines if (moment := _moment(line))}
    newest = max(by_time, default=0.0)
    return [by_time[at] for at in sorted(by_time) if at >= newest - HOUR_S]


def _lines(fd: int, path: str) -> list[str]:
    """All but the first; raises `InvalidArgument` for another file, `OSError`."""
    size = os.fstat(fd).st_size
    content = os.pread(fd, len(HEADER), 0)
    if (size and content != HEADER.encode()) or size > MOST_BYTES:
        raise InvalidArgument(f"{path} is no recording of `fuseswap top --record`")
    while len(content) < size and (more := os.pread(fd, size - len(content), len(content))):
        content += more
    return content.decode(errors="replace").split("\n")[1:-1]


def _as_json(snapshot: Snapshot) -> dict[str, Any]:
    host: dict[str, Any] = {PRESSURE: snapshot.memory_some_avg10_percent}
    return {
        "time": round(snapshot.time, 3),
        "host": {key: number for key, number in host.items() if number is not None},
        "devices": {one.status["name"]: _numbers(one) for one in snapshot.devices},
    }


def _numbers(device: DeviceSnapshot) -> dict[str, float]:
    stats = device.status["stats"]
    found: dict[str, float] = {
        key: stats[name] * _unit(name) for key, name in GAUGES.items() if name in stats
    }
    found |= _changes(device.rates)
    if device.worker_cpu_percent is not None:
        found[CPU] = round(device.worker_cpu_percent, 1)
    return found


def _changes(rates: Rates | None) -> dict[str, float]:
    if rates is None:
        return {}
    return {
        key: round(rates.per_second[name] * _unit(name), 1)
        for key, name in RATES.items()
        if name in rates.per_second
    }


def _unit(name: str) -> int:
    return PAGE_SIZE if name in _IN_PAGES else 1


def _moment(line: str) -> Moment | None:
    """None for what is none, as a line of which half was written."""
    try:
        found = json.loads(line)
        at = float(found["time"])
        if not 0 <= at < _LARGEST:
            return None
        devices = {str(name): _known(one) for name, one in found["devices"].items()}
        return Moment(at, _known(found["host"]), devices)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _known(numbers: dict[str, Any]) -> dict[str, float]:
    return {
        str(key): float(number)
        for key, number in numbers.items()
        if isinstance(number, int | float) and math.isfinite(number) and 0 <= number < _LARGEST
    }
