"""A tier client: who talks to a server, in a tier process (``tier_process.py``).

It is asyncio-free: everything runs in trio.  Many calls are made at once, at most one for each
place of ``remote_wire.py``; two of the same extent and generation only where both read.  Whatever
else than `OSError` is raised counts as EIO, and is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


class ClientSetup(NamedTuple):
    """What a client gets to know.

    ``rest`` is the tier's specification behind its kind; for ``valkey`` all of the URL.
    ``identity`` (`fuseswap.tiers.remote_identity.Identity`, as a dict) names device and tier.
    A write should end within ``write_timeout_s``: then the answer is not heard any more.
    """

    name: str
    rest: str
    identity: dict[str, str]
    extent_count: int
    write_timeout_s: float


class TierClient(Protocol):
    """See the module."""

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        """Keep ``data`` until `release`; durable as far as it was asked for.

        It may come twice with the same data.  ENOSPC: it is full.
        """

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        """Just ``length`` bytes at ``offset`` of what was written; ENODATA: it is gone.

        Cancelled after `tier_timeout`, which is ETIMEDOUT.
        """

    async def release(self, extent: int, generation: int) -> None:
        """A hint: it is not needed any more.  One that is not there is no error."""


class LastingClient(TierClient, Protocol):
    """One with work of its own; what a plugin's client lacks of this is not called."""

    async def run(self) -> None:
        """Its own task; it may return at once.  An error ends the process, and a new one comes."""

    async def read_within(
        self, extent: int, generation: int, offset: int, length: int, seconds: float
    ) -> bytes:
        """As `read`, which is not called then; ends by itself, with ETIMEDOUT after ``seconds``."""

    def begin_read(
        self,
        extent: int,
        generation: int,
        offset: int,
        length: int,
        seconds: float,
        done: Callable[[bytes | None], None],
    ) -> bool:
        """A shorter way: whether it is taken; then ``done`` comes once, from `flush` on.

        With None the way was too short, and `read_within` is asked.
        """

    def flush(self) -> None:
        """No more reads begin in this turn."""

    async def clear(self) -> None:
        """Delete everything of this device and tier: it goes down."""


MakeClient = Callable[[ClientSetup], TierClient]
