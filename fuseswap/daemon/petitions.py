"""Who asks the supervisor for something: one after the other, each with one answer.

    restart        the answer comes when it is done
    end-standby    `down` needs its memory; keep-standby: it was refused
    attach JSON    an `Attachment`, with its descriptors; detach NAME: it is not needed any more

The answer is the scribe's to send, behind ``state.json``, which says the same by then.
"""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

from fuseswap.daemon import control_socket
from fuseswap.daemon.attachment import close
from fuseswap.daemon.scribe import Scribe

RESTART = "restart"
END_STANDBY = "end-standby"
KEEP_STANDBY = "keep-standby"
ATTACH = "attach"
DETACH = "detach"
REQUESTS = (RESTART, END_STANDBY, KEEP_STANDBY, ATTACH, DETACH)
MAX_UNSENT = 16  # answers that wait for the scribe; beyond that nothing more is heard


class Petitions:
    """The control socket, and the one connection that waits for its answer."""

    def __init__(self, path: Path, scribe: Scribe, *, resumes: bool) -> None:
        """With a transport that ``resumes`` there can be a restart at all."""
        self._listener = control_socket.listen(path)
        self._scribe = scribe
        self._resumes = resumes
        self._waiting: socket.socket | None = None
        self.argument = ""  # what the one that waits has said behind its word
        self._fds: list[int] = []
        self._unsent: set[socket.socket] = set()  # at most MAX_UNSENT

    @property
    def fd(self) -> int | None:
        """Readable where there is a request; None while the one before waits for its answer."""
        full = len(self._unsent) >= MAX_UNSENT
        return None if self._waiting or full else self._listener.fileno()

    def take(self) -> str:
        """Hear the next, one of `REQUESTS`, which waits for its answer; "" where there is none."""
        asked = control_socket.accept(self._listener)
        if asked is None:
            return ""
        self._waiting, text, self._fds = asked
        request, _, self.argument = text.partition(" ")
        if request not in REQUESTS:
            self.answer("refused", f"'{text}' is unknown to this supervisor")
        elif request == RESTART and not self._resumes:
            text = "the pyfuse3 transport can't hand over; use: fuseswap down, then up"
            self.answer("refused", text)
        else:
            return request
        return ""

    def take_descriptors(self) -> list[int]:
        """Those that the one that waits has brought: from now on the caller's."""
        fds, self._fds = self._fds, []
        return fds

    def answer(self, kind: str, text: str) -> None:
        """Tell the one that waits what was ``done`` or ``refused``."""
        connection, self._waiting = self._waiting, None
        close(self.take_descriptors())
        assert connection
        self._unsent.add(connection)
        self._scribe.do(partial(self._send, connection, kind, text))

    def _send(self, connection: socket.socket, kind: str, text: str) -> None:
        """In the scribe's thread."""
        control_socket.answer(connection, kind, text)
        self._unsent.discard(connection)
