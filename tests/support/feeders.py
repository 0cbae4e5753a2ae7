"""The feeder's thread on watermarks that a test sets, and memory for it to make."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

from fuseswap.linux.watermarks import Watermarks
from fuseswap.store.memory_reserve import FeederThread
from fuseswap.store.region import Region
from fuseswap.units import MIB


class Levels(Watermarks):
    """Watermarks that are where a test wants them."""

    def __init__(self) -> None:
        super().__init__("/nonexistent")
        self.near = self.reached = self.poor = self.bare = False

    def are_near(self) -> bool:
        return self.near

    def are_reached(self) -> bool:
        return self.reached

    def others_are_poor(self) -> bool:
        return self.poor

    def others_are_bare(self) -> bool:
        return self.bare


class Poor(Region):
    """A region there is no memory for."""

    def populate(self, offset: int, length: int) -> None:
        raise OSError("no memory")


@contextmanager
def running(levels: Levels) -> Iterator[FeederThread]:
    feeder = FeederThread(levels)
    feeder.start()
    try:
        yield feeder
    finally:
        feeder.close()


def region(kind: type[Region] = Region) -> Region:
    fd = os.memfd_create("feeder")
    os.ftruncate(fd, 8 * MIB)
    return kind(fd)


def wait(feeder: FeederThread, answers: list[bool], count: int) -> None:
    """Until so many orders are answered: each is told through the eventfd."""
    poll = select.poll()
    poll.register(feeder.eventfd, select.POLLIN)
    while len(answers) < count:
        assert poll.poll(10_000), "the feeder said nothing"
        os.eventfd_read(feeder.eventfd)
        feeder.collect()
