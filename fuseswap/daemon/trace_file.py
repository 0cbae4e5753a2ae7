"""The ring of a trace, as a worker has it: from its start, or handed out while it runs.

It is an attachment that ``fuseswap trace start`` makes (``frontswap/trace_ring.py``).  So it
outlives the worker, and the next one goes on where that one stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fuseswap.daemon.attachment import Attachment
from fuseswap.errors import FuseswapError, HostError, InvalidArgument, in_words, kept
from fuseswap.filesystem.device import Device
from fuseswap.frontswap.trace_ring import TraceRing
from fuseswap.store.region import Region
from fuseswap.tiers.callbacks import await_callback, result_of

log = logging.getLogger(__name__)

Submit = Callable[[Any, Any], None]


class TraceFile:
    """The ring, if there is one."""

    def __init__(self) -> None:
        self._ring: TraceRing | None = None

    def hold(self, one: Attachment) -> None:
        """Map it, with all its page tables, at the start of a worker.

        Without it that serves, and the trace ends.
        """
        if error := self._try(one):
            log.error("the trace does not go on: %s", in_words(error))

    async def open_in(self, submit: Submit, one: Attachment) -> None:
        """As `hold`, in a thread: a page table may have to be waited for.

        Raises `HostError` or `OSError`.
        """
        result_of(await await_callback(partial(submit, partial(self._try, one))))

    def _try(self, one: Attachment) -> Exception | None:
        if self._ring is None:
            try:
                region = Region(one.fds[0])
                region.populate(0, region.size_bytes)
                self._ring = TraceRing(region)
            except (FuseswapError, OSError, ValueError) as exc:
                return kept(HostError(f"the ring can't be mapped: {in_words(exc)}"))
        return None

    def begin(self, device: Device) -> None:
        """Have ``device`` write into it, if there is one.  Raises `InvalidArgument`."""
        if self._ring:
            device.swapfile.trace(self._ring)

    def go_on(self, device: Device) -> None:
        """As `begin`, of a device that the former worker has served."""
        try:
            self.begin(device)
        except InvalidArgument as exc:
            log.error("the trace does not go on: %s", exc)

    def end(self, device: Device | None) -> None:
        """The recorder reads what is there, and ends."""
        ring, self._ring = self._ring, None
        if ring:
            if device:
                device.swapfile.trace(None)
                ring.stop()
            ring.close()
