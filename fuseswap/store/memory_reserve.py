"""The feeder: whatever the store waits for in the page allocator, it waits for here.

Reclaim waits for the thread that serves.  Were that thread to wait for memory itself, for a frame
or a table, the machine would stand still.  So it orders memory ahead of need, and goes on with
what it has.

    serving thread   order -> ... goes on ...                     -> `collect` -> done(True)
    feeder                 `-> waits in the page allocator -> finished -'

`AtOnce` is the feeder of tests and tools, which serve no swap: it makes memory at once, in the
thread that asks.  `FeederThread` is the worker's:

- It calls the kernel without the interpreter lock.
- It takes no lock that the serving thread may need.  So no fallocate, which holds the inode
  against `Region.punch`.
- It touches nothing of the store.  The serving thread takes over itself what is made.
- Like its process it is IO_FLUSHER.  Were its own reclaim to write to swap, it would wait for us.
  A worker that is killed meanwhile could not end, and the next one would wait for that.
- It is SCHED_RR, and so may take from what the kernel keeps back (ALLOC_MIN_RESERVE).

Two lines:

    urgent       what a store may need at once.  Bound: a reserve of frames, and a cluster for
                 each store that waits.  A cluster is made between two pieces of a frame, which
                 took more than a second in a guest without memory
    can wait     an index that would grow, pages that are only to be mapped.  Bound: one order
                 of each object that asks

The second is held back while the machine is short of memory.  Were an order refused instead, its
object would ask again at once, some thousand times a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from fuseswap.errors import places_of
from fuseswap.linux import syscalls
from fuseswap.linux.watermarks import Watermarks
from fuseswap.store.region import Region
from fuseswap.units import SEGMENT_BYTES

log = logging.getLogger(__name__)

Done = Callable[[bool], None]
_Order = tuple[Region, int, int, Done, int]

_IDLE_S = 1.0  # between two looks at the machine while nothing is ordered
_SHORT_S = 0.02  # ... while memory is short, and after the kernel had none
_PIECE_BYTES = 64 << 10
_STUCK_S = 0.1  # with one order: the kernel has nothing to give; 1 MiB takes 0.5 ms
_SPENT_S = 10.0  # then others may be left bare: a machine that crawls on is as good as dead
_RICH_S = 2.0  # without that it is over
_DEATH_BYTES = 8 << 20  # of swap that became free at once: a process has ended
_MOURNED_S = 5.0  # so long its memory is for others: what it had here comes later, with discards
# Frames that are made whatever that costs others; and so many more are ready while these are poor,
# and may be given to them.  Half the reserve, where that is less.
KEPT_READY = 8
_LOCKED_STACK_BYTES = 128 * 1024


class Feeder(Protocol):
    """Who makes memory for regions."""

    deferred: bool  # `done` may come later, from `collect`
    is_short: bool  # of memory, the machine: kswapd works; as last seen
    is_tight: bool  # ... so that those who allocate wait
    is_poor: bool  # ... so that others have little: stores leave some frames ready
    is_spent: bool  # ... and keep it: no frame is made

    def populate(
        self, region: Region, offset: int, length: int, done: Done, *, can_wait: bool = False
    ) -> None:
        """Make a range resident, then call ``done`` with whether that worked.

        What failed half-way holds memory: punch it.  Never from inside with ``deferred``.
        """

    def collect(self) -> None:
        """Call ``done`` of what has been made; nothing is waited for."""


class AtOnce:
    """Makes memory at once, in the thread that asks."""

    deferred = False
    is_short = False
    is_tight = False
    is_poor = False
    is_spent = False

    def populate(
        self, region: Region, offset: int, length: int, done: Done, *, can_wait: bool = False
    ) -> None:
        """See `Feeder`."""
        try:
            region.populate(offset, length)
        except OSError:
            done(False)
        else:
            done(True)

    def collect(self) -> None:
        """See `Feeder`: nothing is ever left to do."""


class FeederThread:
    """See the top of this file; ``start`` it before the process is locked."""

    deferred = True

    def __init__(
        self,
        watermarks: Watermarks | None = None,
        chores: Sequence[Callable[[], None]] = (),
        errand: Callable[[], None] = lambda: None,
    ) -> None:
        """``chores`` are done once a second, ``errand`` when asked: here, where they may wait."""
        self.watermarks = watermarks or Watermarks()
        self._urgent: deque[_Order] = deque()
        self._leisurely: deque[_Order] = deque()
        self._finished: deque[tuple[Done, bool, int]] = deque()
        self._era = 0  # of who orders; see `forget`
        self._wake = threading.Lock()  # held while there is nothing to do
        self._wake.acquire()
        self._ended = False
        self._began = 0.0  # the order or chore under way; 0: there is none
        self._thread: threading.Thread | None = None
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ready_level: Callable[[], int] = lambda: 0  # frames ready, as a hint
        self.kept_level: Callable[[], int] = lambda: KEPT_READY  # of them, see there
        self._chores = chores
        self._errand = errand
        self._is_asked = False
        self.is_short = False
        self.is_tight = False
        self.is_poor = False
        self.is_spent = False
        self._poor_since = self._poor_at = 0.0  # since, at last; 0: others are not
        self._least_free_swap = syscalls.free_swap_bytes()
        self._death_at = -_MOURNED_S
        self.failed = 0
        self.failed_chores = 0
        self.slowest_s = 0.0

    # -- the serving thread --------------------------------------------------------------

    def populate(
        self, region: Region, offset: int, length: int, done: Done, *, can_wait: bool = False
    ) -> None:
        """See `Feeder`."""
        order = (region, offset, length, done, self._era)
        if can_wait:
            self._leisurely.append(order)
        elif length < SEGMENT_BYTES:  # a store waits for just this
            self._urgent.appendleft(order)
        else:
            self._urgent.append(order)
        self.nudge()

    def collect(self) -> None:
        """See `Feeder`."""
        finished = self._finished
        while finished:
            done, made, era = finished.popleft()
            if era == self._era:
                done(made)

    def forget(self) -> None:
        """The worker that ordered pauses: it is not told, and orders not begun are dropped.

        Another worker may hold by now what this one would give back.  An order under way is not
        waited for.  Its memory, a frame at most, stays until the next worker takes it.
        """
        self._era += 1
        self._urgent.clear()
        self._leisurely.clear()
        self.ready_level = lambda: 0
        self.kept_level = lambda: KEPT_READY

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for memory itself, and so does not say what it last saw."""
        began = self._began
        return began > 0 and time.monotonic() - began > _STUCK_S

    def ask(self) -> None:
        """Have the errand done, before the next chores."""
        self._is_asked = True
        self.nudge()

    def nudge(self) -> None:
        """Have the thread look; a futex call at the most."""
        if self._wake.locked():
            with contextlib.suppress(RuntimeError):  # it woke up by itself meanwhile
                self._wake.release()

    # -- the thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Start it."""
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; orders that are not begun are dropped."""
        self._ended = True
        self.nudge()
        if self._thread is not None:
            self._thread.join()
        os.close(self.eventfd)

    def _run(self) -> None:
        syscalls.lock_stack(_LOCKED_STACK_BYTES)
        syscalls.set_real_time(True)
        next_chores = 0.0
        while not self._ended:
            self.is_short = self.watermarks.are_near()
            self.is_tight = self.is_short and self.watermarks.are_reached()
            self._look_at_others()
            self._began = time.monotonic()
            if self._began >= next_chores:
                for chore in self._chores:
                    self._do(chore)
                next_chores = time.monotonic() + _IDLE_S
            if self._is_asked:
                self._is_asked = False
                self._do(self._errand)
            order = self._next()
            if order is not None:
                self._carry_out(order)
                continue
            self._began = 0.0
            self._wake.acquire(timeout=_SHORT_S if self._holds_back() else _IDLE_S)

    def _look_at_others(self) -> None:
        """Whether they keep what they have.

        After a while of that only the least: then the OOM killer is asked, and is quick.  Once it
        has taken a process no frame is made for a moment.
        """
        now = time.monotonic()
        free = syscalls.free_swap_bytes()
        if free - self._least_free_swap > _DEATH_BYTES:
            self._least_free_swap = free
            self._death_at = now
        self._least_free_swap = min(free, self._least_free_swap)
        self.is_poor = poor = self.is_short and self.watermarks.others_are_poor()
        if poor:
            self._poor_at = now
            self._poor_since = self._poor_since or now
        elif now - self._poor_at > _RICH_S:
            self._poor_since = 0.0
        lasts = now - self._poor_since > _SPENT_S and now - self._death_at > _MOURNED_S
        self.is_spent = poor and (not lasts or self.watermarks.others_are_bare())

    def _do(self, chore: Callable[[], None]) -> None:
        """Whatever happens in a chore, there is a feeder after it."""
        try:
            chore()
        except OSError:
            return  # no memory for it: again in a second
        except Exception as exc:
            self.failed_chores += 1
            if self.failed_chores == 1:
                log.error("a chore of the feeder fails: %r\n%s", exc, places_of(exc.__traceback__))

    def _holds_back(self) -> bool:
        return self.is_short and bool(self._urgent or self._leisurely)

    def _next(self) -> _Order | None:
        """What to make now, if anything."""
        with contextlib.suppress(IndexError):  # `forget`, meanwhile
            if self._urgent and not (self._is_large() and self._spares()):
                return self._urgent.popleft()
            if self._leisurely and not self.is_short:
                return self._leisurely.popleft()
        return None

    def _is_large(self) -> bool:
        return self._urgent[0][2] >= SEGMENT_BYTES

    def _spares(self) -> bool:
        """Whether others may have the memory first: enough frames are ready, or they are poor."""
        kept = self.kept_level()
        enough = self.ready_level() >= (2 * kept if self.is_poor else kept)
        return self.is_spent or (self.is_short and enough and self.watermarks.are_reached())

    def _carry_out(self, order: _Order) -> None:
        region, offset, length, done, era = order
        began = time.monotonic()
        try:
            for at in range(offset, offset + length, _PIECE_BYTES):
                region.populate(at, min(_PIECE_BYTES, offset + length - at))
                self._make_small_ones(length)
        except OSError:
            self.failed += 1
            time.sleep(_SHORT_S)  # the kernel had none for us: not at once again
            self._finish(done, False, era)
        else:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self._finish(done, True, era)

    def _make_small_ones(self, length: int) -> None:
        """Between two pieces of an order of ``length``: what stores wait for, as they do now."""
        with contextlib.suppress(IndexError):  # `forget`, meanwhile
            while length >= SEGMENT_BYTES and self._urgent and not self._is_large():
                self._carry_out(self._urgent.popleft())

    def _finish(self, done: Done, made: bool, era: int) -> None:
        self._finished.append((done, made, era))
        os.eventfd_write(self.eventfd, 1)
