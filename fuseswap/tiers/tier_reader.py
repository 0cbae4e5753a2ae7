"""Reads of pages from a tier: read ahead, together, again.

One owner for all that stands between a page that is not in memory and its bytes:

    load           one page, through read-ahead (``readahead.py``)
    load_together  neighbours, which a swap-out put there together: one read
    check          what came is looked at by who asked (`TierLoad.finish`): it is the page, or the
                   page has changed meanwhile (`RETRY`), or it is wrong
    again          what is wrong, or could not be read with others, is read once more, alone

A page that cannot be read costs the process it belongs to its life.  So an error is not believed
at once: a read of one page is tried `1 + len(_PAUSES_S)` times.  But a time-out is: who gives it
has tried for all of `tier_timeout`.  A fault waits for this, so no task is made, and a load takes
35 Python calls from the request to the reply.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from fuseswap.errors import RETRY, CorruptData, Deferred, Retry, kept
from fuseswap.tiers.readahead import ReadAhead
from fuseswap.tiers.tier import TIER_TIMEOUT_S, Copies, is_late
from fuseswap.tiers.unreadable_pages import UnreadablePages
from fuseswap.units import PAGE_SIZE, Location, PageNumber, SegmentRef

log = logging.getLogger(__name__)

_PAUSES_S = (0.01, 0.1)  # an answer of EIO took the kernel's driver its own tries already
_LOGGED_IN_A_ROW = 20
_LAST_COPY = 1
# Objects this near to each other are read together, up to so many bytes.
_NEAR_BYTES = PAGE_SIZE
_TOGETHER_BYTES = 7 * PAGE_SIZE

Done = Callable[["bytes | OSError"], None]
# Location, generation, offset and length.
Begin = Callable[[Location, int, int, int, Done], None]
Answer = Callable[["bytes | Retry | Exception"], None]
# Whether what was to be read is not there any more: then an error is none.
Gone = Callable[[], bool]


class Finish(Protocol):
    """Makes the page of what a tier had ``stored``.

    None where the page has changed meanwhile.  Raises `CorruptData`, which counts where it is
    ``final``.
    """

    def __call__(self, load: TierLoad, stored: bytes, *, final: bool = True) -> bytes | None:
        """See above."""


class TierLoad(Deferred):
    """A page that is on a tier: ``length`` bytes at ``offset`` of ``location``."""

    def __init__(
        self,
        reader: TierReader,
        finish: Finish,
        page: PageNumber,
        word: int,
        ref: SegmentRef,
        location: Location,
        offset: int,
        length: int,
    ) -> None:
        self.reader = reader
        self._finish = finish
        self.page = page
        self.word = word
        self.ref = ref
        self.location = location
        self.offset = offset
        self.length = length

    def __str__(self) -> str:
        return f"page {self.page} is on tier {self.location.tier}"

    def begin(self, answer: Answer) -> None:
        """Read it; ``answer`` gets the 4096 bytes, `RETRY` or the error, at once or later."""
        self.reader.load(self, answer)

    def finish(self, stored: bytes, *, final: bool = True) -> bytes | None:
        """See `Finish`."""
        return self._finish(self, stored, final=final)

    def is_gone(self) -> bool:
        """Whether the page was stored anew, or its segment has moved."""
        try:
            return self._finish(self, b"", final=False) is None
        except CorruptData:
            return False


class TierReader:
    """Reads by ``begin`` (None: there is no tier); ``ahead`` where what lies there never changes.

    Counts ``units`` of 4096 bytes, ``retries``, ``errors`` (reads that failed for good) and
    ``loads`` (pages).
    """

    def __init__(
        self,
        begin: Begin | None,
        *,
        ahead: bool = False,
        copies_at: Callable[[Location], Copies | None] = lambda location: None,
    ) -> None:
        """``copies_at``: the tier of a place, where that has two copies of each segment."""
        self._begin = begin
        self._copies_at = copies_at
        self.ahead = ReadAhead(self._begin_once) if ahead else None
        self.units = 0
        self.retries = 0
        self.errors = 0
        self.loads = 0
        self._failed_in_a_row = 0
        self._unreadable = UnreadablePages()
        self.timeout_s = TIER_TIMEOUT_S  # no try begins later

    # -- pages -----------------------------------------------------------------------

    def load(self, one: TierLoad, answer: Answer) -> None:
        """One page."""

        def ended(found: bytes | OSError) -> None:
            self._settle(one, answer, found, final=False)

        if self.ahead is None:
            self._try(one.location, one.ref.sequence, one.offset, one.length, ended, 0, one.is_gone)
            return
        where = (one.location, one.ref.sequence)

        def alone() -> None:
            self._try(one.location, one.ref.sequence, one.offset, one.length, ended, 0, one.is_gone)

        self.ahead.begin_read(where, one.offset, one.length, ended, alone)

    def load_together(
        self, loads: list[TierLoad], answer: Callable[[TierLoad, bytes | Retry | Exception], None]
    ) -> None:
        """Neighbours (`neighbours`), by one read; ``answer`` is called for each."""
        first, last = loads[0], loads[-1]
        if first is last:
            self.load(first, lambda found: answer(first, found))
            return

        def ended(found: bytes | OSError) -> None:
            for one in loads:
                self._settle_one_of(one, answer, found, one.offset - first.offset)

        length = last.offset + last.length - first.offset
        where = (first.location, first.ref.sequence)
        if self.ahead is None:
            self._begin_once(*where, first.offset, length, ended)
            return

        def alone() -> None:
            self._begin_once(*where, first.offset, length, ended)

        self.ahead.begin_read(where, first.offset, length, ended, alone)

    def _settle_one_of(
        self,
        one: TierLoad,
        answer: Callable[[TierLoad, bytes | Retry | Exception], None],
        found: bytes | OSError,
        at: int,
    ) -> None:
        def answered(outcome: bytes | Retry | Exception) -> None:
            answer(one, outcome)

        if isinstance(found, bytes):
            self._settle(one, answered, found[at : at + one.length], final=False)
        elif one.is_gone():
            answered(RETRY)
        elif is_late(found):
            self._settle(one, answered, found, final=True)
        else:
            self._load_again(one, answered)

    def _settle(
        self, one: TierLoad, answer: Answer, found: bytes | OSError, *, final: bool
    ) -> None:
        """The tier has answered."""
        if not isinstance(found, bytes):
            if one.is_gone():
                answer(RETRY)
                return
            self._unreadable.add(one.page, str(found))
            answer(CorruptData(f"page {one.page} cannot be read from the tier: {found}"))
            return
        try:
            page = one.finish(found, final=final)
        except CorruptData as exc:
            if final:
                answer(kept(exc))
            else:
                self._load_again(one, answer)
            return
        if page is None:
            answer(RETRY)
            return
        self.loads += 1
        answer(page)

    def _load_again(self, one: TierLoad, answer: Answer) -> None:
        """One page alone, for the last time; each of its copies, where there are two."""
        if copies := self._copies_at(one.location):
            self.retries += 1
            self._load_copy(one, answer, copies, 0)
            return

        def ended(found: bytes | OSError) -> None:
            self._settle(one, answer, found, final=True)

        where = (one.location, one.ref.sequence)
        self.begin_read(*where, one.offset, one.length, ended, again=True, is_gone=one.is_gone)

    def _load_copy(self, one: TierLoad, answer: Answer, copies: Copies, which: int) -> None:
        """From copy ``which``, and where that is bad from the next."""

        def ended(found: bytes | OSError) -> None:
            if which == _LAST_COPY:
                self._settle(one, answer, found, final=True)
                return
            try:
                page = one.finish(found, final=False) if isinstance(found, bytes) else b""
            except CorruptData:
                page = b""
            if page == b"":
                self._load_copy(one, answer, copies, which + 1)
            else:
                self.loads += page is not None
                answer(RETRY if page is None else page)

        extent, generation = one.location.extent, one.ref.sequence
        copies.begin_read_copy(which, extent, generation, one.offset, one.length, ended)

    # -- bytes -----------------------------------------------------------------------

    def begin_read(
        self,
        location: Location,
        generation: int,
        offset: int,
        length: int,
        done: Done,
        *,
        again: bool = False,
        is_gone: Gone | None = None,
    ) -> None:
        """As `Tier.begin_read`, with patience while what is read is not ``is_gone``.

        ``again``: the caller has read this before, and it was wrong: a retry of its own.  It is
        of the second copy, where there are two.
        """
        self.retries += again
        if again and (copies := self._copies_at(location)):

            def ended(found: bytes | OSError) -> None:
                if isinstance(found, bytes):
                    done(found)
                else:
                    self._try(location, generation, offset, length, done, 0, is_gone)

            copies.begin_read_copy(_LAST_COPY, location.extent, generation, offset, length, ended)
            return
        self._try(location, generation, offset, length, done, 0, is_gone)

    def _begin_once(
        self, location: Location, generation: int, offset: int, length: int, done: Done
    ) -> None:
        """Tried once: where that fails the caller asks in pieces."""
        assert self._begin is not None
        self.units += -(-(offset % PAGE_SIZE + length) // PAGE_SIZE)

        def ended(found: bytes | OSError) -> None:
            if is_late(found):
                self._note_error(location, offset, length, found)
            done(found)

        self._begin(location, generation, offset, length, ended)

    def _try(
        self,
        location: Location,
        generation: int,
        offset: int,
        length: int,
        done: Done,
        failures: int,
        is_gone: Gone | None,
        began: float | None = None,
    ) -> None:
        """``began``: the first try."""
        if self._begin is None:
            done(OSError(errno.ENXIO, "there is none"))
            return
        self.units += -(-(offset % PAGE_SIZE + length) // PAGE_SIZE)
        first = trio.current_time() if began is None else began

        def ended(outcome: bytes | OSError) -> None:
            if isinstance(outcome, bytes):
                self._failed_in_a_row = 0
                done(outcome)
            elif is_gone is not None and is_gone():
                done(outcome)
            elif outcome.errno == errno.EBADMSG and not failures:
                # Wrong bytes, not a device that needs time: once more, as for a wrong checksum.
                self.retries += 1
                self._try(
                    location, generation, offset, length, done, len(_PAUSES_S), is_gone, first
                )
            elif self._may_try_again(outcome, failures, first):
                again = partial(self._try, location, generation, offset, length, done)
                again = partial(again, is_gone=is_gone, began=first)
                trio.lowlevel.spawn_system_task(self._try_later, again, failures)
            else:
                self._note_error(location, offset, length, outcome)
                done(outcome)

        self._begin(location, generation, offset, length, ended)

    def _may_try_again(self, error: OSError, failures: int, began: float) -> bool:
        if failures == len(_PAUSES_S) or is_late(error):
            return False
        return trio.current_time() - began < self.timeout_s

    async def _try_later(self, again: Callable[..., None], failures: int) -> None:
        await trio.sleep(_PAUSES_S[failures])
        self.retries += 1
        again(failures=failures + 1)

    def _note_error(
        self, location: Location, offset: int, length: int, error: bytes | OSError
    ) -> None:
        self.errors += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row <= _LOGGED_IN_A_ROW:
            where = f"tier {location.tier}, extent {location.extent}"
            log.error(
                "the tier cannot be read (%s, %d bytes at %d: %s)", where, length, offset, error
            )


def neighbours(loads: list[TierLoad]) -> list[list[TierLoad]]:
    """Loads in groups that one read brings: near each other in the same place."""
    groups: list[list[TierLoad]] = []
    for one in sorted(loads, key=lambda one: (one.location, one.offset)):
        if groups:
            first, last = groups[-1][0], groups[-1][-1]
            same = (one.location, one.ref) == (first.location, first.ref)
            near = one.offset - last.offset - last.length <= _NEAR_BYTES
            if same and near and one.offset + one.length - first.offset <= _TOGETHER_BYTES:
                groups[-1].append(one)
                continue
        groups.append([one])
    return groups
