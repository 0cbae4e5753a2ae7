"""A backend that gives pages to the others: all of them before it goes, or down to a size.

One task, between requests: a page is loaded, another backend keeps it, and after 16 of them others
get a turn.  Meanwhile the backend is asked for no store.  Where no other takes a page it ends: what
has moved stays where it is, and the backend takes stores again.
"""

from __future__ import annotations

import trio

from fuseswap.errors import CorruptData, Deferred, InvalidArgument, Retry, StoreRefused, kept
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.links import Link
from fuseswap.frontswap.moves import Move, Moves
from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.units import FIRST_PAGE, PAGE_SIZE, PageNumber

_PAGES_A_TURN = 16  # 100 us or so
_LATE_S = 0.01  # between two looks at stores that have yet to end
_PATIENCE_S = 2.0  # with one page, for which room is being made


class Draining:
    """Takes pages out of one backend, down to ``to_bytes`` (None: it goes)."""

    def __init__(self, frontswap: Frontswap, name: str, to_bytes: int | None) -> None:
        """Raises `InvalidArgument` where its pages can't go, or no other backend is there."""
        self.name = name
        self.to_bytes = to_bytes
        self._frontswap = frontswap
        self._moves = Moves(frontswap)
        source = frontswap.links.find(name)
        self._number = source.backend.number
        if self._number is None:
            raise InvalidArgument(f"pages of '{name}' don't go to other backends")
        if not self._targets():
            raise InvalidArgument(f"no backend can have the pages of '{name}'")
        self.total = self._left()
        self.error = ""
        self.is_done = False

    def _targets(self) -> list[Link]:
        """Who may take a page: all others, or to shrink those behind it."""
        links = self._frontswap.links
        source = links.find(self.name)
        return [
            link
            for link in links.takers
            if link.backend.name != self.name
            and (self.to_bytes is None or link.order > source.order)
        ]

    def _left(self) -> int:
        """Pages that are yet to go."""
        stored = self._frontswap.links.find(self.name).backend.stored_pages
        return max(0, stored - (self.to_bytes or 0) // PAGE_SIZE)

    @property
    def progress(self) -> str:
        """For a person, and for the command that waits."""
        what = f"remove={self.name}" if self.to_bytes is None else f"shrink={self.name}"
        if self.error:
            return f"{what}: failed: {self.error}"
        if self.is_done:
            return f"{what}: {self.total} of {self.total} pages"
        total = max(self.total, 1)
        return f"{what}: {max(0, min(total - 1, total - self._left()))} of {total} pages"

    async def run(self) -> None:
        """Move them; sets `is_done` or `error`."""
        frontswap = self._frontswap
        while frontswap.adopt_some():
            await trio.lowlevel.checkpoint()
        frontswap.set_draining(self.name, True)
        try:
            await self._move_all()
            if self.to_bytes is None:
                await self._unregister()
        except (StoreRefused, InvalidArgument) as exc:
            self.error = str(exc)
        finally:
            if any(link.backend.name == self.name for link in frontswap.links.chain):
                frontswap.set_draining(self.name, False)
        self.is_done = not self.error

    async def _move_all(self) -> None:
        """Go through the slot table until enough has gone."""
        number, deadline = self._number or 0, trio.current_time() + _PATIENCE_S
        while before := self._left():
            page = FIRST_PAGE
            while page < self._frontswap.slots.page_count and self._left():
                pages, page = self._moves.pages_of(number, page)
                await self._move_some(pages)
                await trio.lowlevel.checkpoint()
            if self._left() < before:
                deadline = trio.current_time() + _PATIENCE_S
            elif trio.current_time() > deadline:
                raise StoreRefused(f"{before} pages are not to be found")
            else:
                await trio.sleep(_LATE_S)  # stores that it took before have yet to end

    async def _move_some(self, pages: list[PageNumber]) -> None:
        for count, page in enumerate(pages, 1):
            if not self._left():
                return
            await self._move(page)
            if not count % _PAGES_A_TURN:
                await trio.lowlevel.checkpoint()

    async def _move(self, page: PageNumber) -> None:
        """Move one page, waiting as a store would; raises `StoreRefused` if nothing helps."""
        source = self._frontswap.links.find(self.name)
        deadline = trio.current_time() + _PATIENCE_S
        while True:
            try:
                move = await self._load(source, page)
                wait = self._moves.store(move, self._targets()) if move else None
            except CorruptData:
                self._moves.give_up(source, page)
                return
            except StoreRefused as exc:
                raise StoreRefused(f"{self._left()} pages find no room elsewhere: {exc}") from None
            if wait is None:
                return
            outcome = await await_callback(wait.begin)
            if isinstance(outcome, Exception):
                raise StoreRefused(f"{self._left()} pages find no room elsewhere: {outcome}")
            if trio.current_time() > deadline:
                raise StoreRefused(f"{self._left()} pages wait for room elsewhere in vain")

    async def _load(self, source: Link, page: PageNumber) -> Move | None:
        """The page, read where it has to be; None where it has gone."""
        word = self._frontswap.slots.get(page)
        try:
            return self._moves.load(source, page)
        except Deferred as exc:
            begin = kept(exc).begin
        found = await await_callback(begin)
        if isinstance(found, Retry):
            return None  # it is found in the next round, if it is there
        if isinstance(found, OSError):
            found = StoreRefused(str(found))
        return Move(page, word, result_of(found))

    async def _unregister(self) -> None:
        """It is empty: it goes, once the stores that it took have ended."""
        deadline = trio.current_time() + _PATIENCE_S
        while True:
            try:
                self._frontswap.unregister(self.name)
            except InvalidArgument:
                if trio.current_time() > deadline:
                    raise
            else:
                return
            await trio.sleep(_LATE_S)
            await self._move_all()
