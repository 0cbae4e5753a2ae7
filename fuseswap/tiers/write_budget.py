"""The budget of the backing file: how many bytes may still be written to it.

Set by the parameter ``writeback_limit_bytes``.  It counts down as writes begin; a write
that fails gives its bytes back.
"""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """Bytes that may still be written; ``note`` gets the number whenever that changes it."""

    def __init__(self, note: Callable[[int], None]) -> None:
        self.left_bytes: int | None = None  # None: no limit
        self._note = note

    def affords(self, count: int) -> bool:
        """Whether ``count`` bytes are left."""
        return self.left_bytes is None or self.left_bytes >= count

    def charge(self, count: int) -> None:
        """Take ``count`` bytes off, or give them back where it is negative."""
        if self.left_bytes is not None:
            self.left_bytes -= count
            self._note(self.left_bytes)
