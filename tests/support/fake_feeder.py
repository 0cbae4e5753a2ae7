"""A feeder whose memory comes when the test says so, or not at all."""

from __future__ import annotations

from collections import deque

from fuseswap.store.memory_reserve import Done
from fuseswap.store.region import Region
from fuseswap.units import SEGMENT_BYTES


class FakeFeeder:
    """Orders stand in `orders` until `deliver`; what was made is taken over by `collect`."""

    deferred = True

    def __init__(self) -> None:
        self.orders: deque[tuple[Region, int, int, Done]] = deque()
        self._finished: deque[tuple[Done, bool]] = deque()
        self.is_short = False
        self.is_tight = False
        self.is_poor = False
        self.is_spent = False

    def populate(
        self, region: Region, offset: int, length: int, done: Done, *, can_wait: bool = False
    ) -> None:
        """See `Feeder`."""
        self.orders.append((region, offset, length, done))

    def collect(self) -> None:
        """See `Feeder`."""
        while self._finished:
            done, made = self._finished.popleft()
            done(made)

    def make(self, count: int = 1 << 20, *, made: bool = True) -> None:
        """Carry out up to ``count`` orders, or fail them half-way; nobody has taken them over."""
        for _ in range(min(count, len(self.orders))):
            region, offset, length, done = self.orders.popleft()
            region.populate(offset, length if made else length // 2)
            self._finished.append((done, made))

    def deliver_frames(self, count: int) -> None:
        """As `deliver`, of frames alone."""
        mine = [order for order in self.orders if order[2] == SEGMENT_BYTES][:count]
        others = [order for order in self.orders if order not in mine]
        self.orders = deque(mine)
        self.deliver()
        self.orders = deque([*others, *self.orders])

    def deliver(self, count: int = 1 << 20, *, made: bool = True) -> None:
        """`make`, and have it taken over; what that orders stays."""
        self.make(count, made=made)
        self.collect()
