"""The links of the chain: which backends there are, in which order, and whose a word is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fuseswap.counting import zeros
from fuseswap.errors import CorruptData, Deferred, InvalidArgument, StoreRefused, kept
from fuseswap.frontswap.backend import Backend, Copy, Data, Patience
from fuseswap.frontswap.counters import BackendStatistics
from fuseswap.store.slot_word import FOREIGN, KIND_MASK, MODULUS, is_foreign, number_of
from fuseswap.units import PageNumber


@dataclass(frozen=True, slots=True)
class Link:
    """One backend of the chain."""

    order: int
    backend: Backend
    counted: BackendStatistics
    patience: Patience | None
    copy: Copy | None
    draining: bool = False  # asked for no store: its pages are on their way to others

    def attempt(self, page: PageNumber, data: Data, old: int, replace: bool) -> int | Exception:
        """Store in this one: the word of ``page``, or the error."""
        try:
            return self.backend.store(page, data, old, replace)
        except Exception as exc:
            return kept(exc)

    def wait_for(self, page: PageNumber, outcome: int | Exception) -> Deferred | None:
        """How a refusal of this one is waited for, if it is."""
        if isinstance(outcome, StoreRefused) and self.patience:
            return self.patience(page, outcome)
        return None


class Links:
    """``chain`` in order, ``by_number`` those of foreign words, ``objects`` that of all others.

    ``takers``: those of the chain that are asked for stores.
    """

    def __init__(self) -> None:
        self.chain: tuple[Link, ...] = ()
        self.takers: tuple[Link, ...] = ()
        self.by_number: dict[int, Link] = {}
        self.objects: Link | None = None
        self._release_object = release_nothing

    def add(
        self,
        backend: Backend,
        order: int,
        patience: Patience | None,
        copy: Copy | None,
        page_count: int,
    ) -> None:
        """Register ``backend``, for an area of ``page_count`` pages.

        Raises `InvalidArgument` for a name, a number or an order that is taken.
        """
        name, number = backend.name, backend.number
        if number is not None and not 0 <= number <= 0xFF:
            raise InvalidArgument(f"backend '{name}' has number {number}, beyond 0 to 255")
        for link in self.chain:
            other = link.backend
            if other.name == name:
                raise InvalidArgument(f"there is a backend '{name}' already")
            if other.number == number:
                raise InvalidArgument(f"backend '{name}' has the number of '{other.name}'")
            if link.order == order:
                raise InvalidArgument(f"backend '{name}' has the order of '{other.name}', {order}")
        backend.init(page_count)
        counted = zeros(BackendStatistics, backend=name)
        self._set([*self.chain, Link(order, backend, counted, patience, copy)])

    def make_room(self, position: int) -> int:
        """The order of a backend that is to come to ``position``; 0 is the first."""
        position = min(position, len(self.chain))
        moved = [
            replace(link, order=place + (place >= position))
            for place, link in enumerate(self.chain)
        ]
        self._set(moved)
        return position

    def find(self, name: str) -> Link:
        """The one of ``name``; raises `InvalidArgument`."""
        for link in self.chain:
            if link.backend.name == name:
                return link
        raise InvalidArgument(f"there is no backend '{name}'")

    def set_draining(self, name: str, draining: bool) -> None:
        """Whether it is left out when a page is stored; raises `InvalidArgument`."""
        found = self.find(name)
        changed = replace(found, draining=draining)
        self._set([changed if link is found else link for link in self.chain])

    def remove(self, name: str) -> BackendStatistics:
        """Unregister; raises `InvalidArgument` where there is none, or pages are in it."""
        link = self.find(name)
        if pages := link.backend.stored_pages:
            raise InvalidArgument(f"backend '{name}' has {pages} pages: drain it first")
        self._set([one for one in self.chain if one is not link])
        return link.counted

    def _set(self, links: list[Link]) -> None:
        self.chain = tuple(sorted(links, key=lambda link: link.order))
        self.takers = tuple(link for link in self.chain if not link.draining)
        numbered = ((link.backend.number, link) for link in self.chain)
        self.by_number = {number: link for number, link in numbered if number is not None}
        self.objects = next((link for link in self.chain if link.backend.number is None), None)
        self._release_object = self.objects.backend.release if self.objects else release_nothing

    @property
    def backends(self) -> list[Backend]:
        """Those there are, in order."""
        return [link.backend for link in self.chain]

    def release(self, page: PageNumber, word: int) -> None:
        """``word`` has lost its page; a corrupt one names nothing."""
        if word % MODULUS:
            return
        if word & KIND_MASK != FOREIGN:
            self._release_object(page, word)
        elif link := self.by_number.get(number_of(word)):
            link.backend.release(page, word)

    def owner_of(self, word: int) -> Backend | None:
        """Whose ``word`` is, sound and not 0."""
        link = self.by_number.get(number_of(word)) if is_foreign(word) else self.objects
        return link.backend if link else None


def refuse(page: PageNumber, data: Data, old: int, replace: bool = False) -> int:
    """The store of an empty chain."""
    raise StoreRefused("no backend is registered")


def load_unowned(page: PageNumber, word: int) -> bytes:
    """The load of a chain without a backend of objects."""
    raise CorruptData(f"page {page}: no backend has the pages of slot word {word:#x}")


def release_nothing(page: PageNumber, word: int) -> None:
    """The release of such a chain."""
