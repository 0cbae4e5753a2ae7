"""The standby: a second worker, prepared, for the moment in which the first one ends.

To replace a worker needs memory just when there is none.  So it is taken beforehand: the
standby is started, imported and locked in memory, and waits (``worker_process.py``).  A
thread of the supervisor sees to it, so that the supervisor itself never waits for memory:

    asked   -> wait a moment -> is there room? -> spawn -> prepared: kept
    taken, dead, renewed     -> as if asked again; after a failure with pauses that grow

`take` is all that the reaction to a death needs: one step, without a lock and without the
kernel.  `renew` makes another from the code that is installed now, whether or not one is
kept.  It says so through ``news``.  A hand-over begins with it.

A supervisor that goes on where another died adopts what that one had prepared, where it has all
that was attached and no more.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from fuseswap.daemon.adopted_worker import ServingWorker
from fuseswap.daemon.thread_ends import note_failure
from fuseswap.daemon.worker_process import PREPARE_TIMEOUT_S, WorkerProcess
from fuseswap.errors import HostError
from fuseswap.linux import syscalls

FIRST_PAUSE_S = 0.2  # the worker that has just taken over is busy with what it took over
LONGEST_PAUSE_S = 60.0
ROOM_BYTES = 48 << 20  # more than twice what one takes
SWAP_ROOM_BYTES = 4 * ROOM_BYTES  # memory is always short where swap is in use
_LOCKED_STACK_BYTES = 128 * 1024
_TAKE_TIMEOUT_S = 20.0  # one that is nearly ready comes sooner than another
_TRIED_S = 10.0  # one that lived for so long was no failure


class Standby:
    """Keeps one worker prepared where ``keep``; ``spawn`` starts one (raises `HostError`)."""

    def __init__(
        self,
        spawn: Callable[[bool], WorkerProcess],
        changed: Callable[[], object],
        room: Callable[[], bool],
        *,
        keep: bool,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """``spawn`` is told whether it is for a renewal, and called from the thread.

        ``changed``, called from the thread as well: `pid` is another; ``room``: is there memory.
        """
        self._spawn = spawn
        self._changed = changed
        self._has_room = room
        self._keep = self._may_keep = keep
        self._kept: deque[ServingWorker] = deque()  # at most one
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.news = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Readable where one is being made: has anything been attached since it was spawned?
        self.begun = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._making: WorkerProcess | None = None
        self._reason = ""
        self._renewing = False
        self._stopping = False
        self._settled = threading.Event()  # not between spawn and prepared
        self._settled.set()
        self._first_pause_s = self._pause_s = first_pause_s
        self._made_at = 0.0
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)

    def start(self) -> None:
        """From now on one is kept."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Its process id, None while there is none."""
        try:
            return self._kept[0].pid
        except IndexError:
            return None

    def bring_in_line(self) -> None:
        """Hand it what was attached since it began, so that a death needs no memory for that.

        Also one that is just being made: should this supervisor die it serves all the same.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.begun)
        making = self._making  # until it is among the others
        for worker in (*self._kept, *([making] if making else [])):
            with contextlib.suppress(HostError):  # it has died
                worker.bring_in_line()

    def adopt(self, worker: ServingWorker) -> None:
        """Keep the one of a former supervisor; before `start`."""
        self._kept.append(worker)

    @property
    def keeps(self) -> bool:
        """Whether there is to be one."""
        return self._keep

    def take(self) -> ServingWorker | None:
        """The one that is prepared, or is just being; None: there is none.

        Call `ask` once the worker serves.
        """
        if not self._kept:
            self._settled.wait(_TAKE_TIMEOUT_S)
        try:
            return self._kept.popleft()
        except IndexError:
            return None

    def ask(self) -> None:
        """Have another made, if one is kept and there is none."""
        os.eventfd_write(self._wake, 1)

    def renew(self) -> None:
        """Have one made from the code as it is now; `news` is readable when that has ended."""
        self._renewing = True
        self.ask()

    def end_of_renewal(self) -> None:
        """After `news`.  Raises `HostError` where none could be made; the former is kept then."""
        os.eventfd_read(self.news)
        if self._reason:
            raise HostError(self._reason)

    def keep(self, keep: bool) -> None:
        """Keep one from now on, where one may be kept; or none: then it is ended here."""
        self._keep = keep and self._may_keep
        self.ask()
        if not keep:
            self._end()

    def stop(self) -> None:
        """End the thread and the standby."""
        self._stopping = True
        self.ask()
        if making := self._making:  # so that the thread ends
            making.signal_kill()
        if self._thread.is_alive():
            self._thread.join(PREPARE_TIMEOUT_S)
        self._end()

    def _end(self) -> None:
        if making := self._making:
            making.signal_kill()
        while self._kept:
            self._kept.popleft().kill()

    # -- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        syscalls.lock_stack(_LOCKED_STACK_BYTES)
        while not self._stopping:
            try:
                self._step()
            except Exception as exc:
                note_failure(exc, "and begins again")
                self._pause_longer()
                self._waited(self._pause_s)

    def _step(self) -> None:
        if self._renewing:
            self._reason = self._make()
            self._renewing = False
            os.eventfd_write(self.news, 1)
        elif self._kept or not self._keep:
            self._watch()
        elif not self._waited(self._pause_s) and (not self._has_room() or self._make()):
            self._pause_longer()

    def _make(self) -> str:
        """Make one in place of the one there is; the reason where that failed."""
        self._settled.clear()
        try:
            self._kept.appendleft(self._prepared())
        except HostError as exc:
            return str(exc)
        finally:
            self._making = None
            self._settled.set()
        self._made_at = time.monotonic()
        if len(self._kept) > 1:
            self._kept.pop().kill()
        self._changed()
        return ""

    def _prepared(self) -> WorkerProcess:
        self._making = worker = self._spawn(self._renewing)
        os.eventfd_write(self.begun, 1)
        if self._stopping or not (self._keep or self._renewing):
            worker.signal_kill()
        try:
            worker.wait_prepared()
        except BaseException:
            worker.kill()
            raise
        return worker

    def _watch(self) -> None:
        """Until `take` or `renew` asks, or the standby dies: then it is reaped."""
        watched = [*self._kept]
        if not self._waited(None, *(worker.pidfd for worker in watched)) and watched:
            try:
                self._kept.remove(watched[0])
            except ValueError:
                return  # it was taken, and died since: that is not for us to see to
            watched[0].reap()
            if time.monotonic() - self._made_at < _TRIED_S:
                self._pause_longer()
            self._changed()
        elif watched and not self._kept:  # taken
            self._pause_s = self._first_pause_s
            self._changed()

    def _pause_longer(self) -> None:
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _waited(self, timeout_s: float | None, *fds: int) -> bool:
        """Wait for one of ``fds``, or a while; True: another thread asked."""
        poll = select.poll()
        for fd in (self._wake, *fds):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]
        if self._wake in ready:
            os.eventfd_read(self._wake)
        return self._wake in ready


def has_room() -> bool:
    """Whether the machine has memory for a standby, or can make it by swapping others out."""
    found = {"MemAvailable": 0, "SwapFree": 0}
    with open("/proc/meminfo") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) << 10
    return found["MemAvailable"] >= ROOM_BYTES or found["SwapFree"] >= SWAP_ROOM_BYTES
