"""How long to keep asking after the last request, before going to sleep.

As KVM's halt polling: the window doubles where the next request came soon after falling asleep, up
to ``busy_poll_us``, and halves where it did not.  So an idle device never polls.
"""

from __future__ import annotations

_FIRST_NS = 10_000
_LEAST_NS = 1000


class PollWindow:
    """``ns``: how long to ask on; 0: not at all."""

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0

    def adapt(self, slept_ns: int, most_ns: int) -> None:
        """The last sleep took so long; ``most_ns`` is the longest window."""
        if slept_ns <= most_ns:
            self.ns = min(max(2 * self.ns, _FIRST_NS), most_ns)
        else:
            self.ns = min(self.ns // 2, most_ns) if self.ns > _LEAST_NS else 0
