"""A store that a backend answers later, as the caller of the front end sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuseswap.errors import Deferred


class LateStore(Deferred):
    """A backend answers later; loads get the data meanwhile."""

    taken = True

    def __init__(
        self,
        begin: Callable[[Callable[[Any], None]], None],
        end: Callable[[int | Exception], Exception | None],
    ) -> None:
        super().__init__("a backend takes the page later")
        self._begin = begin
        self._end = end

    def begin(self, answer: Callable[[Any], None]) -> None:
        """See `Deferred`; answers 0 once the page is stored, or a newer store took its place."""
        end = self._end
        self._begin(lambda outcome: answer(end(outcome) or 0))
