"""A worker whose supervisor died, as the next supervisor sees it.

It is no child of ours, and has no channel to us.  But it serves, or waits for the lock of the state
and would serve next.  To go on with it takes no memory.  Another worker takes 20 MiB, locked, just
where two processes may have died for want of it.

    serving     its pidfd tells when it has ended; it can be killed, not paused
    prepared    it stands in line for the lock, so it attaches by itself when the other one ends
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import Any, Protocol

from fuseswap.daemon import strays
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.worker_process import ATTACH_TIMEOUT_S, PREPARE_TIMEOUT_S, holder
from fuseswap.errors import HostError
from fuseswap.linux.protect import Protection

_LOOK_S = 0.002
_ENDED_UNSEEN = -1  # only a parent is told the exit code
_SERVES_WITHIN_S = 10.0  # the lock of one that died goes to one that was prepared


class ServingWorker(Protocol):
    """What a supervisor does with the worker that serves; see `WorkerProcess`."""

    pid: int
    pidfd: int
    hears: bool  # it has a channel

    def wait_prepared(self) -> None:
        """Until it could attach.  Raises `HostError`."""

    def attach(self, *, strictly: bool = False) -> Protection:
        """Have it serve.  Raises `HostError`."""

    def pause(self) -> None:
        """Have it stop between two requests.  Raises `HostError`."""

    def go_on(self) -> Protection:
        """Have a paused one serve again.  Raises `HostError`."""

    def tell_standby(self, pid: int) -> None:
        """Have it count the memory of its standby."""

    def bring_in_line(self) -> None:
        """Hand it what was attached since.  Raises `HostError`."""

    def drop(self, attachment: Attachment) -> None:
        """Have it drop one.  Raises `HostError`."""

    def has_dropped(self, attachment: Attachment) -> None:
        """It did."""

    @property
    def channel_fd(self) -> int:
        """Readable where there may be an `answer`."""

    def answer(self) -> dict[str, Any] | None:
        """What came of an attachment; None: nothing will be said any more."""

    def signal_kill(self) -> None:
        """SIGKILL."""

    def kill(self) -> int:
        """`signal_kill` and `reap`."""

    def reap(self) -> int:
        """Its exit code, once it has ended."""


class AdoptedWorker:
    """One worker from its adoption to its end."""

    hears = False

    def __init__(self, pid: int, header_fd: int, noted: Protection | None) -> None:
        """``noted``: what holds for it, as it said.  Raises `HostError` where it has ended."""
        self.pid = pid
        self._header_fd = header_fd
        self._protection = noted or Protection(False, False, 0)
        pidfd = strays.open_checked(pid, lambda: {pid} if strays.arguments_of(pid) else set())
        if pidfd is None:
            raise HostError(f"worker {pid} has ended")
        self.pidfd = pidfd

    def wait_prepared(self) -> None:
        """Nothing: `attach` waits for all of it."""

    def attach(self, *, strictly: bool = False) -> Protection:
        """Wait until it has the lock; then it attaches, told or not.  Raises `HostError`.

        It may be about to be prepared.  Another would take longer.
        """
        deadline = time.monotonic() + PREPARE_TIMEOUT_S + ATTACH_TIMEOUT_S
        while holder(self._header_fd) != self.pid:
            if self._has_ended(_LOOK_S) or time.monotonic() > deadline:
                raise HostError(f"worker {self.pid} does not go on")
        return self._protection

    def pause(self) -> None:
        """Always `HostError`: who hands over kills it, as after a crash."""
        raise self._deaf()

    def go_on(self) -> Protection:
        """As `pause`."""
        raise self._deaf()

    def bring_in_line(self) -> None:
        """As `pause`."""
        raise self._deaf()

    def drop(self, attachment: Attachment) -> None:
        """As `pause`."""
        raise self._deaf()

    def has_dropped(self, attachment: Attachment) -> None:
        """Nothing: it drops none."""

    @property
    def channel_fd(self) -> int:
        """It says nothing; readable once it has ended."""
        return self.pidfd

    def answer(self) -> dict[str, Any] | None:
        """See `ServingWorker`."""
        return None

    def _deaf(self) -> HostError:
        return HostError(
            f"worker {self.pid} hears no supervisor since the former one died; first: "
            "fuseswap restart"
        )

    def tell_standby(self, pid: int) -> None:
        """Nothing: it would not hear it, and counts what it was told last."""

    def signal_kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def kill(self) -> int:
        """`signal_kill` and `reap`."""
        self.signal_kill()
        return self.reap()

    def reap(self) -> int:
        """Wait until every thread has ended; -1, since another process is told the code."""
        self._has_ended(None)
        os.close(self.pidfd)
        return _ENDED_UNSEEN

    def _has_ended(self, timeout_s: float | None) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def who_serves(header_fd: int, name: str, directory: str) -> tuple[int, set[int]]:
    """The worker that serves though its supervisor died, 0: none does; and the others.

    Where the one before died a moment ago, one that was prepared is waited for, 10 s at most.
    """
    deadline = time.monotonic() + _SERVES_WITHIN_S
    while workers := set(strays.workers_of(name, directory)):
        serving = holder(header_fd)
        if serving in workers:
            return serving, workers - {serving}
        if time.monotonic() > deadline:
            break
        time.sleep(10 * _LOOK_S)
    return 0, workers
