"""Who asks the supervisor for a restart: one after the other, each with one answer.

The answer is the scribe's to send, behind ``state.json``, which says the same by then.
"""

from __future__ import annotations

import socket
from pathlib import Path

from fuseswap.host import control
from fuseswap.scribe import Scribe


class Petitions:
    """The control socket, and the one connection that waits for its answer."""

    def __init__(self, path: Path, scribe: Scribe, *, resumes: bool) -> None:
        """With a transport that ``resumes`` there can be a restart at all."""
        self._listener = control.listen(path)
        self._scribe = scribe
        self._resumes = resumes
        self._waiting: socket.socket | None = None

    @property
    def fd(self) -> int | None:
        """Readable where somebody asks; None while the one before waits."""
        return None if self._waiting else self._listener.fileno()

    def take(self) -> bool:
        """Hear the next; True: it waits for a restart now."""
        asked = control.accept(self._listener)
        if asked is None:
            return False
        self._waiting, request = asked
        if request != "restart":
            self.answer("refused", f"'{request}' is unknown to this supervisor")
        elif not self._resumes:
            text = "the pyfuse3 transport can't hand over; use: fuseswap down, then up"
            self.answer("refused", text)
        return self._waiting is not None

    def answer(self, kind: str, text: str) -> None:
        """Tell the one that waits what was ``done`` or ``refused``."""
        connection, self._waiting = self._waiting, None
        assert connection
        self._scribe.do(lambda: control.answer(connection, kind, text))
