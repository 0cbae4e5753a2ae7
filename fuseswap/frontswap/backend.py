"""What a backend is to the front end (``chain.py``), after the kernel's ``frontswap_ops``.

A page is in one backend or in none.  Its slot word says in which, and what the backend needs to
find it; see ``slot_word.py``.  The front end alone clears a word or makes the first commit of a
store.  A backend may replace a word of its own by another (a cleaner moves objects).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.units import PageNumber

# The number of the backend that has each page in its place (``raw_file.py``).
IN_PLACE = 0

# The 4096 bytes of a page.
Data = bytes | memoryview
# What a refusal is worth waiting for, if anything: page and refusal.
Patience = Callable[[PageNumber, StoreRefused], "Deferred | None"]
# Told of each whole page that was stored by another backend; may raise a `Deferred` that is taken.
Copy = Callable[[PageNumber, Data], None]


class Backend(Protocol):
    """Where pages can be kept.  Called in the serving thread; nothing here waits."""

    @property
    def name(self) -> str:
        """Of the label ``backend`` in statistics; one backend of each name."""

    @property
    def number(self) -> int | None:
        """In its foreign words, 0 to 255, and the same in every later worker.

        None for the backend that has the words of objects and same-filled pages; one at most.
        """

    def init(self, page_count: int) -> None:
        """It is registered, for an area of ``page_count`` pages; before any store."""

    def store(self, page: PageNumber, data: Data, old: int, replace: bool = False) -> int:
        """Keep 4096 bytes for ``page``; returns the word to commit.

        The page's word is 0 by now, with ``replace`` it is still ``old``; what ``old`` names is
        there until the commit.  Raises `StoreRefused`, and holds nothing then.  Or a `Deferred`
        whose `begin` answers with the word, or an error: nothing was begun.
        """

    def load(self, page: PageNumber, word: int) -> bytes:
        """The 4096 bytes that ``word`` names; raises `CorruptData`, or `Deferred`."""

    def release(self, page: PageNumber, word: int) -> None:
        """A sound ``word`` is gone, or was not committed: free what it named.  Never fails."""

    def adopt(self, page: PageNumber, word: int) -> bool:
        """Count a sound ``word`` that a former worker left; False where it can't be right."""

    def finish_adoption(self) -> bool:
        """All words were adopted: do a bounded piece of the rest; True once all is done.

        Asked too where there were none, as it is registered while the swap is on.
        """

    def invalidate_area(self) -> None:
        """The whole area was discarded, as by swapon: each word of it was released before."""

    @property
    def stored_pages(self) -> int:
        """Pages whose words name it."""
