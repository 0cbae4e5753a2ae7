"""The policy of dictionaries: what pages are recompressed with, and when one is trained.

A level of zstd, and the current dictionary while it wins.  A new one is trained from pages
that are about to be recompressed (``dictionary_training.py``).  It is tried on pages it has not
seen, and kept where it wins by `dictionary_gain_percent`; a later one has to win against it.

One that wins and finds no place waits until ``dictionary_retirement.py`` has tried to make one.
One that stops winning is not used any more.  One that no object needs any more is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fuseswap.codecs.dictionary import Dictionary
from fuseswap.codecs.recompressor import Recompressor, Trained
from fuseswap.counting import counter, gauge
from fuseswap.errors import Isolated
from fuseswap.store.dictionary_area import Dictionaries

DEFAULT_GAIN_PERCENT = 3
NO_DICTIONARIES = 100  # percent
URGENT_LEVEL = 6  # at most, while stores wait: a segment in 0.1 s, not in 0.8


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """When a dictionary is trained, in pages that were recompressed since, and judged.

    ``least_pages``: pages that are to be recompressed, to train one for.  ``judged_bytes``:
    compressed both ways, with and without it, before it is judged.
    """

    least_pages: int = 2048
    again_after_pages: int = 65536
    soon_again_after_pages: int = 16384
    judged_bytes: int = 256 << 10


DEFAULT_SCHEDULE = TrainingSchedule()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A dictionary that has won and has no place, and the bytes it should save, itself paid for."""

    data: bytes
    gain_bytes: int


@dataclass(frozen=True, slots=True)
class DictionaryStatistics:
    """Dictionaries there are, came and went."""

    dictionaries: int = gauge(
        "dictionaries",
        "Dictionaries kept: the current one, and older ones that pages still need.",
        after="recompressed_pages",
    )
    trained: int = counter(
        "Dictionaries that won on pages they were not trained on, and were kept.",
        name="dictionaries_trained",
    )
    dropped: int = counter(
        "Dictionaries that no page needed any more.", name="dictionaries_dropped"
    )


class DictionaryPolicy:
    """Of the ``dictionaries`` of one cache; ``pages_of``: at most how many pages need each number.

    ``level``: of zstd, 0 where nothing is recompressed.  ``pages``: how many were tried so far.
    """

    def __init__(
        self,
        dictionaries: Dictionaries,
        pages_of: Sequence[int],
        level: int,
        schedule: TrainingSchedule = DEFAULT_SCHEDULE,
    ) -> None:
        self._dictionaries = dictionaries
        self._pages_of = pages_of
        self.level = level
        self.schedule = schedule
        self.gain_percent = DEFAULT_GAIN_PERCENT
        self._is_forbidden = False
        self.pages = 0
        self.trained = 0
        self.dropped = 0
        self.waiting: Waiting | None = None
        # With one that a former worker trained there is no hurry; there are not many places.
        self._due_at = schedule.soon_again_after_pages if dictionaries.current else 0
        self._made: dict[int, Recompressor] = {}  # by level, two at most
        self._refused: Dictionary | None = None  # does not win any more

    def set_gain(self, percent: int) -> None:
        """Of `gain_percent`.  Raises `InvalidArgument`."""
        if self._is_forbidden and percent != NO_DICTIONARIES:
            raise Isolated
        self.gain_percent = percent

    def forbid(self) -> None:
        """None for good: how small a page becomes tells whether it is like those of others."""
        self._is_forbidden = True
        self.set_gain(NO_DICTIONARIES)

    @property
    def is_on(self) -> bool:
        """Whether anything is recompressed."""
        return self.level > 0

    @property
    def is_due(self) -> bool:
        """Whether another dictionary may be tried."""
        return self.pages >= self._due_at and self.gain_percent < NO_DICTIONARIES

    def begin(self) -> None:
        """One is tried now; if it does not win, not again for a while."""
        self._due_at = self.pages + self.schedule.soon_again_after_pages

    def judge(self, found: Trained | None, pages: int) -> None:
        """Keep the dictionary trained for ``pages`` pages if it wins, and more than it takes."""
        if found is None or not found.held_out:
            return
        won = found.before_bytes - found.after_bytes
        expected = won * pages // found.held_out
        if won * 100 < found.before_bytes * self.gain_percent or expected < 2 * len(found.data):
            return
        if self._dictionaries.has_place:
            self._keep(found.data)
        else:
            self.waiting = Waiting(found.data, expected - len(found.data))

    def settle(self) -> None:
        """Keep the one that waits if there is a place by now, and forget it if not."""
        waiting, self.waiting = self.waiting, None
        if waiting and self._dictionaries.has_place:
            self._keep(waiting.data)

    def _keep(self, data: bytes) -> None:
        if self._dictionaries.add(data):
            self.trained += 1
            self._due_at = self.pages + self.schedule.again_after_pages

    @property
    def in_use(self) -> Dictionary | None:
        """The one that pages are recompressed with: the current one, while it wins."""
        current = self._dictionaries.current
        wins = self.gain_percent < NO_DICTIONARIES and current is not self._refused
        return current if wins else None

    def recompressor(self, *, urgent: bool = False) -> Recompressor:
        """For `level`, with the dictionary that is current, unless it has stopped winning.

        ``urgent``: stores wait for it, so at most for `URGENT_LEVEL`.
        """
        levels = self.level, min(self.level, URGENT_LEVEL)
        level, dictionary = levels[urgent], self.in_use
        made = self._made.get(level)
        if made is None or made.dictionary is not dictionary:
            self._made = {one: its for one, its in self._made.items() if one in levels}
            made = self._made[level] = Recompressor(level, dictionary)
        # By `level` alone: a lower one searches a part of the dictionary, and wins less.
        elif dictionary and level == self.level and made.plain_bytes >= self.schedule.judged_bytes:
            if made.known_bytes * 100 > made.plain_bytes * (100 - self.gain_percent):
                self._refused = dictionary
                self._due_at = min(self._due_at, self.pages + self.schedule.soon_again_after_pages)
            made.plain_bytes = made.known_bytes = 0
        return made

    def drop_unused(self) -> None:
        """Drop those that no object needs, but for the current one."""
        current = self._dictionaries.current
        for one in self._dictionaries.all:
            unused = one is not current or one is self._refused
            if unused and not self._pages_of[one.number]:
                self._dictionaries.drop(one)
                self.dropped += 1

    def statistics(self) -> DictionaryStatistics:
        """A snapshot."""
        return DictionaryStatistics(len(self._dictionaries.all), self.trained, self.dropped)
