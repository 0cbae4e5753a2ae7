"""What can't be answered at once: pages on a tier, and stores into a full pool.

The rule: decide synchronously, do the I/O afterwards, look again, commit.  Each
operation tries the synchronous call first; it is the only one that decides anything.
Where that must wait it raises a `Deferred`, which knows what for.

    read    the page is on a tier: its bytes are read (``tier_reader.py``), and are the answer
            only if the page is still the one that was looked up
    write   the pool is full: it stands in line until a segment is freed; all writes that
            come meanwhile stand behind it.  One task serves the line, and ends with it.
            A partial write to a page on a tier brings that page back into memory first
    write   a backend took the page and answers later, or a copy is wanted: those behind it
            go on
    discard it takes more than one step (``discards.py``), or has an edge on a tier

Called from the transports.  `begin_read` and `begin_write` make no task a request: they call
``done`` later.  A task costs 12 to 32 us, as much as the rest of a fault.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

import trio

from fuseswap.counting import counter, zeros
from fuseswap.errors import RETRY, Deferred, Retry, StoreRefused, kept
from fuseswap.filesystem.discards import Discards, Unfinished
from fuseswap.filesystem.pending_requests import Read, ReadDone, Waits, Write, WriteDone
from fuseswap.filesystem.swapfile import Swapfile
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.moves import Moves
from fuseswap.tiers.callbacks import Answer, await_callback, result_of
from fuseswap.tiers.tier_reader import TierLoad, neighbours
from fuseswap.units import PAGE_SIZE, PageNumber, page_range

# More pages than this of one request are not with the tier at once.
_PAGES_AT_ONCE = 16
_WRITES_AT_ONCE = 32  # of the line, before others get a turn
# How long stores waited: counted up to each bound, and beyond the last.
WAIT_BOUNDS_S = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclass(slots=True)
class SlowPathStatistics:
    """What had to wait.  Writes by how long they did, from `WAIT_BOUNDS_S` to the next."""

    store_waits_1ms: int = counter(
        "Writes that waited for room (or for a page that is elsewhere) for up to 1 ms.",
        after="saved_by_writeback",
    )
    store_waits_10ms: int = counter("The same, for 1 to 10 ms.")
    store_waits_100ms: int = counter("The same, for 10 to 100 ms.")
    store_waits_1s: int = counter("The same, for 0.1 to 1 s.")
    store_waits_10s: int = counter("The same, for 1 to 10 s.")
    store_waits_longer: int = counter("The same, for more than 10 s.")


@dataclass(slots=True)
class PatienceCounters:
    """What waited for too long."""

    reserve_refused: int = counter(
        "Stores refused because it did not come in time.", after="reserve_empty"
    )


class PendingIo:
    """Waiting versions of `Swapfile`'s operations."""

    def __init__(self, swapfile: Swapfile, frontswap: Frontswap) -> None:
        self._swapfile = swapfile
        self._moves = Moves(frontswap)
        self._counted = frontswap.counters
        self.counters = zeros(PatienceCounters)
        # Their bytes are bounded by the transport: it takes no request while `waiting_bytes` is
        # above a limit of its own.
        self._line: deque[Write] = deque()
        self._serving = False
        self.waiting_bytes = 0  # of writes
        self.reading_bytes = 0
        # No store got memory since then: all that have waited for so long are refused together,
        # for loop has 128 of them, and a second each would be minutes.
        self._short_since: float | None = None
        self.waits = [0] * (len(WAIT_BOUNDS_S) + 1)
        self.discards = Discards(swapfile, self._wait_for, self._stand_in_line)

    @property
    def has_queue(self) -> bool:
        """Whether stores stand in line."""
        return bool(self._line)

    def has_to_wait(self, offset: int, size: int) -> bool:
        """Whether a new write goes behind others, which stand in line, or behind a discard."""
        return bool(self._line) or (bool(self.discards) and self.discards.meets(offset, size))

    @property
    def wants_a_turn(self) -> bool:
        """Whether something waits that goes on as soon as the transport sleeps."""
        return self.waiting_bytes > 0 or bool(self.discards)

    def statistics(self) -> SlowPathStatistics:
        """A snapshot of the counters."""
        waits = self.waits
        return SlowPathStatistics(
            store_waits_1ms=waits[0],
            store_waits_10ms=waits[1],
            store_waits_100ms=waits[2],
            store_waits_1s=waits[3],
            store_waits_10s=waits[4],
            store_waits_longer=waits[5],
        )

    # -- reads -----------------------------------------------------------------------

    def begin_read(
        self, offset: int, size: int, done: ReadDone, tried: Deferred | None = None
    ) -> None:
        """As `Swapfile.read`; ``done`` gets the bytes, or the error.

        ``tried``: what `Swapfile.read` just raised for it.
        """
        size = min(size, self._swapfile.size_bytes - offset)
        if size <= 0:
            done(b"")
            return
        self.reading_bytes += size
        ended = partial(self._read_ended, offset, size, done)
        if isinstance(tried, TierLoad) and size == PAGE_SIZE and not offset % PAGE_SIZE:
            tried.begin(ended)
        else:
            self._look_up_all(offset, size, ended)

    def _read_ended(
        self, offset: int, size: int, done: ReadDone, found: bytes | Retry | Exception
    ) -> None:
        if isinstance(found, Retry):
            self._look_up_all(offset, size, partial(self._read_ended, offset, size, done))
            return
        self.reading_bytes -= size
        done(found)

    async def read(self, offset: int, size: int) -> bytes:
        """As `Swapfile.read`."""
        found: bytes = result_of(await await_callback(partial(self.begin_read, offset, size)))
        return found

    def _look_up_all(self, offset: int, size: int, done: ReadDone) -> None:
        read = Read(offset, size, done)
        self._look_up(read, page_range(read.first, read.first + read.left))

    def _look_up(self, read: Read, pages: Iterable[PageNumber]) -> None:
        """Settle what is in memory, and ask the tier for the rest."""
        misses = []
        for page in pages:
            try:
                found: bytes | Exception = self._swapfile.load(page)
            except TierLoad as miss:
                misses.append(kept(miss))
                continue
            except Exception as exc:
                found = kept(exc)
            read.put(page, found)
        read.waiting.extend(neighbours(misses))
        self._ask(read)

    def _ask(self, read: Read) -> None:
        """Have a bounded number of reads with the tier; some are answered at once."""
        if read.asking:
            return

        def answered(one: TierLoad, found: bytes | Retry | Exception) -> None:
            read.in_flight -= 1
            if isinstance(found, Retry):
                self._look_up(read, [one.page])
                return
            read.put(one.page, found)
            self._ask(read)

        read.asking = True
        while read.waiting and read.in_flight < _PAGES_AT_ONCE:
            together = read.waiting.popleft()
            read.in_flight += len(together)
            together[0].reader.load_together(together, answered)
        read.asking = False

    # -- writes ----------------------------------------------------------------------

    def begin_write(
        self, offset: int, data: memoryview, done: WriteDone, tried: Deferred | None = None
    ) -> None:
        """As `Swapfile.write`, in order of arrival; ``done`` gets None, or the error.

        ``tried``: what `Swapfile.write` just raised for it.
        """
        self.waiting_bytes += len(data)
        write = Write(offset, data, done)
        if tried is not None and tried.taken:  # whoever stands in line
            self._go_on_later(write, tried)
            if not write.data:
                write.served = True
                if not write.in_flight:  # it has ended already
                    self._end(write)
                return
        if not (self.discards and self.discards.hold(write)):
            self._stand_in_line(write)

    def _stand_in_line(self, write: Write) -> None:
        self._line.append(write)
        if not self._serving:
            self._serving = True
            trio.lowlevel.spawn_system_task(self._serve_line)

    def write(
        self, offset: int, data: memoryview, tried: Deferred | None = None
    ) -> Awaitable[None]:
        """As `Swapfile.write`, in order of arrival while the pool is full.

        It is in line from the call on, not only once it is awaited.  ``tried`` as for
        `begin_write`.
        """
        answer: Answer[Exception | None] = Answer()
        self.begin_write(offset, data, answer, tried)
        return _end_of(answer)

    def stop(self) -> None:
        """Forget who stands in line, unanswered: this worker ends, and another one goes on."""
        self._line.clear()

    async def _serve_line(self) -> None:
        """Carry out the writes in line, until the line is empty."""
        served = 0
        try:
            while self._line:
                write = self._line[0]
                error: Exception | None = None
                try:
                    self._swapfile.write(write.offset, write.data)
                except Deferred as exc:
                    if exc.taken:
                        self._go_on_later(write, exc)
                        continue
                    error = await self._retry_later(write, exc)
                    if error is None:
                        continue
                except Exception as exc:
                    error = kept(exc)
                else:
                    self._short_since = None
                if not self._line:  # stopped meanwhile
                    return
                self._line.popleft()
                write.served = True
                write.error = write.error or error
                if isinstance(error, StoreRefused):
                    self._swapfile.forget(write.offset, write.offset + len(write.data))
                if not write.in_flight:
                    self._end(write)
                served += 1
                if not served % _WRITES_AT_ONCE:
                    await trio.lowlevel.checkpoint()
        finally:
            self._serving = False

    async def _retry_later(self, write: Write, exc: Deferred) -> Exception | None:
        """Wait until ``write`` may be tried again; an error where it must not."""
        write.offset += exc.done
        write.data = write.data[exc.done :]
        try:
            await self._wait_for(exc, write)
        except Exception as failure:
            return kept(failure)
        return None

    def _go_on_later(self, write: Write, page: Deferred) -> None:
        """One page of ``write`` was taken and is answered later; the rest of it goes on."""
        end = (write.offset + page.done) // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE
        write.data = write.data[max(0, end - write.offset) :]
        write.offset = end
        write.in_flight += 1

        def ended(outcome: int | Exception) -> None:
            write.in_flight -= 1
            if isinstance(outcome, Exception):
                write.error = write.error or kept(outcome)
            if write.served and not write.in_flight:
                self._end(write)

        kept(page).begin(ended)

    def _end(self, write: Write) -> None:
        self.waiting_bytes -= write.size
        waited_s = trio.current_time() - write.began
        self.waits[bisect_left(WAIT_BOUNDS_S, waited_s)] += 1
        write.done(write.error)

    # -- discards --------------------------------------------------------------------

    async def punch(self, offset: int, size: int) -> None:
        """As `Swapfile.punch`, in steps."""
        try:
            self.discards.begin(offset, size)
        except Unfinished as exc:
            rest = exc.discard
        else:
            return
        await self.discards.go_on(rest)

    async def _wait_for(self, exc: Deferred, waits: Waits) -> None:
        """Make it likely that the next try succeeds.

        Raises `StoreRefused` where the system had no memory for too long: the kernel keeps the
        page then, and its OOM killer can act.
        """
        if exc.done:
            self._short_since = None
        again = await self._begun(exc, waits)
        if again is not None:
            await self._begun(again, waits)

    async def _begun(self, exc: Deferred, waits: Waits) -> Deferred | None:
        """Let ``exc`` go on until it answers; returns what must be waited for after that."""
        if exc.patience_s is not None:
            now = trio.current_time()
            if self._short_since is None:
                self._short_since = now
            if now - max(self._short_since, waits.patient_since) > exc.patience_s:
                self.counters.reserve_refused += 1
                self._counted.failed_stores += isinstance(waits, Write)
                raise StoreRefused(str(exc))
        begin = kept(exc).begin
        if isinstance(exc, TierLoad):
            begin = partial(self._begin_bringing_back, exc)
        # An error gets no name: this frame would hold it.
        found: list[Retry | Exception | bytes | int] = [await await_callback(begin)]
        if exc.patience_s is None and isinstance(found[0], Retry):
            waits.patient_since = trio.current_time()
        return _wait_in(found)

    def _begin_bringing_back(
        self, load: TierLoad, answer: Callable[[Retry | Exception], None]
    ) -> None:
        """Load a page into memory; ``answer`` gets `RETRY`, or why it is not there.

        It is stored in one piece with the last look at its word.  A newer version may be there
        by the time the task that waits has its turn.
        """

        def loaded(found: bytes | Retry | Exception) -> None:
            outcome: Retry | Exception = RETRY
            if isinstance(found, bytes):
                try:
                    self._moves.bring_back(load.page, found)
                except Exception as exc:
                    outcome = kept(exc)
                else:
                    self._short_since = None
            else:
                outcome = found
            answer(outcome)

        load.begin(loaded)


def _wait_in(found: list[Retry | Exception | bytes | int]) -> Deferred | None:
    """The `Deferred` to be waited for, out of the list, if it is one; raises an error there."""
    outcome = found.pop()
    if isinstance(outcome, Exception) and not isinstance(outcome, Deferred):
        try:
            raise outcome
        finally:
            del outcome
    return outcome if isinstance(outcome, Deferred) else None


async def _end_of(answer: Answer[Exception | None]) -> None:
    """Wait for a write; raises what it ended with."""
    result_of(await answer.wait())
