"""Pages that a tier could not give, each named in the log.

A dead server may have thousands of them, and swapoff asks for all.  So they are gathered: one line
a second, or for every `_A_LINE` pages.  A page that is asked for again and again is named once in
`_FORGET_S`, as far as `_REMEMBERED` pages go.
"""

from __future__ import annotations

import logging

import trio

from fuseswap.units import PageNumber

log = logging.getLogger(__name__)

_A_LINE = 256
_LINE_EVERY_S = 1.0
_FORGET_S = 60.0
_REMEMBERED = 4096


class UnreadablePages:
    """Those of one device."""

    def __init__(self) -> None:
        self._named: set[PageNumber] = set()  # `_REMEMBERED` at most
        self._named_since = 0.0
        self._waiting: list[PageNumber] = []  # `_A_LINE` at most
        self._why = ""

    def add(self, page: PageNumber, why: str) -> None:
        """``page`` is an error, which its reader gets; the line comes soon."""
        now = trio.current_time()
        if now - self._named_since > _FORGET_S or len(self._named) == _REMEMBERED:
            self._named.clear()
            self._named_since = now
        if page in self._named:
            return
        self._named.add(page)
        self._waiting.append(page)
        self._why = why
        if len(self._waiting) == 1:
            trio.lowlevel.spawn_system_task(self._write_soon)
        elif len(self._waiting) == _A_LINE:
            self._write()

    async def _write_soon(self) -> None:
        try:
            await trio.sleep(_LINE_EVERY_S)
        finally:
            self._write()

    def _write(self) -> None:
        pages, self._waiting = self._waiting, []
        if pages:
            log.error("cannot be read: %s (the last: %s)", runs_of(pages), self._why)


def runs_of(pages: list[PageNumber]) -> str:
    """As people write it: "page 5", "pages 5, 7-19"."""
    runs: list[list[int]] = []
    for page in sorted(pages):
        if runs and page == runs[-1][-1] + 1:
            runs[-1][1:] = [page]
        else:
            runs.append([page])
    text = ", ".join("-".join(map(str, run)) for run in runs)
    return f"page{'s' if len(pages) > 1 else ''} {text}"
