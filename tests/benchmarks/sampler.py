"""The statistics of a device during a run: before, after, and once a second in between.

A thread reads them, so that fio can be waited for meanwhile.
"""

from __future__ import annotations

import threading
from types import TracebackType

from fuseswap.errors import HostError
from tests.benchmarks.peers import Fuseswap

_EVERY_S = 1.0


class Sampler:
    """Context manager; what it read can be asked for after the end of the block.

    Leaving it raises `HostError` where a request failed in between, or a store was refused.
    """

    def __init__(self, device: Fuseswap) -> None:
        self._device = device
        self.samples: list[dict[str, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self.samples.append(self._device.metrics())
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if exc is not None:
            return
        self.samples.append(self._device.metrics())
        for name in ("failed_requests", "failed_stores", "checksum_errors"):
            if count := self.delta(name):
                raise HostError(f"{self._device.name}: {count} {name} during the run")

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                self.samples.append(self._device.metrics())
            except HostError:
                return  # the next one, in __exit__, says it

    def delta(self, name: str) -> int:
        """How much a counter grew.  Raises `HostError` where it restarted with its worker."""
        first, last = self.samples[0][name], self.samples[-1][name]
        if last < first:
            raise HostError(f"{self._device.name}: its worker was replaced during the run")
        return last - first

    def peak(self, name: str) -> int:
        """The highest seen of a gauge."""
        return max(sample[name] for sample in self.samples)
