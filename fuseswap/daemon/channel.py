"""The worker's end of the channel to its supervisor; the words are in ``worker_process.py``."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
from typing import Any

from fuseswap.daemon.attachment import receive
from fuseswap.linux.protect import Protection

log = logging.getLogger("fuseswap.daemon.worker")

_MAX_BYTES = 16 << 10

# What the event says: serve; or, where another worker can go on, only with all parameters.
ATTACH = 1
ATTACH_STRICTLY = 2


class Channel:
    """Of few words, each a packet; a supervisor that has died does not stop the worker."""

    def __init__(self, fd: int, go: int | None = None) -> None:
        self.socket = socket.socket(fileno=fd)
        self._fds: list[int] = []
        self._go = go  # an older supervisor, which goes on through an upgrade, has none

    def say(self, word: str) -> None:
        """One word."""
        self._send({"word": word})

    def say_ready(self, protection: Protection) -> None:
        """It serves from here on."""
        self._send({"word": "ready", "protection": protection._asdict()})

    def answer(self, request: str, name: str, error: str | None) -> None:
        """An attachment was taken or given back (``request``), or why it was not."""
        self._send({"answer": request, "name": name, "error": error})

    def complain(self, reason: str) -> None:
        """Why there will be no word."""
        self._send({"error": reason})

    def _send(self, packet: dict[str, Any]) -> None:
        try:
            self.socket.send(json.dumps(packet).encode())
        except OSError as exc:
            log.error("the supervisor does not listen: %s", exc)

    def hear(self) -> str:
        """The next word, "" where the supervisor has died; waits for it.

        One that died without having read all is an error once.  What it has said comes behind it.
        """
        for _ in range(2):
            with contextlib.suppress(OSError):
                said, self._fds = receive(self.socket, _MAX_BYTES)
                return said.decode()
        return ""

    def is_cut(self) -> bool:
        """Whether the supervisor has died, whatever it has still said."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def take_descriptors(self) -> list[int]:
        """Those that came with the last word: from now on the caller's."""
        fds, self._fds = self._fds, []
        return fds

    def hear_first(self) -> str:
        """As `hear`; ``attach`` and ``attach strictly`` are events (``worker_process.py``).

        Words that were said before the event come before it.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if self._go is not None:
            poll.register(self._go, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        said = self.hear() if self.socket.fileno() in ready else ""
        if said or self._go is None or self._go not in ready:
            return said
        return "attach strictly" if os.eventfd_read(self._go) == ATTACH_STRICTLY else "attach"
