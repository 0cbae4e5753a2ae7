"""How long to keep asking after the last request, before going to sleep.

As KVM's halt polling: the window doubles where the next request came soon after falling asleep, up
to ``busy_poll_us``, and halves where it did not.  So an idle device never polls.

And only where no other thread wants the processor.  Then a thread that polls keeps off the one that
sends the next request, and loses its claim to run at once when that comes.  Nor is there much to
gain, since no processor sleeps.  Two signs say so:

- the run queue, looked at once a millisecond while requests come, three times alike.  Not in the
  first 20 us: there the kernel's own threads carry a request on;
- a yield that took as long as a computing thread runs.  This one needs no file, and counts at once.

Beside two computing processes a touch of a swapped page took 174 us with polling, 43 without, on a
plain swap file 97 (2 processors).
"""

from __future__ import annotations

from typing import Protocol

_FIRST_NS = 10_000
_LEAST_NS = 1000

_LOOK_EVERY_NS = 1_000_000
_LOOKS = 3
_SETTLED_NS = 20_000
_LOST_NS = 250_000  # the kernel's own threads take 20 us, a computing one a tick or two
_FIRST_REST_NS = 2_000_000
_LONGEST_REST_NS = 128_000_000
_FORGET_NS = 200_000_000


class Processors(Protocol):
    """Says whether they are wanted: `RunQueue`."""

    def is_crowded(self) -> bool:
        """Whether threads wait for one."""

    def close(self) -> None:
        """It is not asked again."""


class PollWindow:
    """``ns``: how long to ask on where others let us, 0 for not at all.  All times: one clock."""

    __slots__ = (
        "_crowded_looks",
        "_look_at_ns",
        "_processors",
        "_rest_ns",
        "_rest_until_ns",
        "is_resting",
        "ns",
    )

    def __init__(self, processors: Processors) -> None:
        self.ns = 0
        self.is_resting = False  # others want the processor
        self._processors = processors
        self._crowded_looks = 0  # 0 to `_LOOKS`
        self._look_at_ns = 0
        self._rest_ns = 0
        self._rest_until_ns = 0

    def close(self) -> None:
        """Nothing is served any more."""
        self._processors.close()

    def adapt(self, slept_ns: int, most_ns: int) -> None:
        """The last sleep took so long; ``most_ns`` is the longest window."""
        if slept_ns <= most_ns:
            self.ns = min(max(2 * self.ns, _FIRST_NS), most_ns)
        else:
            self.ns = min(self.ns // 2, most_ns) if self.ns > _LEAST_NS else 0

    def begin(self, now_ns: int) -> int:
        """Nothing waits any more: until when to ask, ``now_ns`` for not at all."""
        if self.is_resting and now_ns >= self._look_at_ns:
            self._look(now_ns)
        return now_ns if self.is_resting else now_ns + self.ns

    def after_yield(self, end_ns: int, began_ns: int, now_ns: int) -> int:
        """Until when to ask, ``end_ns`` so far, after a yield from ``began_ns`` to ``now_ns``."""
        if now_ns - began_ns > _LOST_NS:
            self.is_resting = True
            self._crowded_looks = _LOOKS
            self._rest_ns = min(max(2 * self._rest_ns, _FIRST_REST_NS), _LONGEST_REST_NS)
            self._rest_until_ns = now_ns + self._rest_ns
        elif now_ns >= self._look_at_ns and end_ns - now_ns <= self.ns - _SETTLED_NS:
            self._look(now_ns)
        return now_ns if self.is_resting else end_ns

    def _look(self, now_ns: int) -> None:
        """Rest after `_LOOKS` crowded looks more than others, until as many were not.

        Where yields get lost and no look says why (a cpuset, a host that takes its processor
        back), rests become longer.
        """
        self._look_at_ns = now_ns + _LOOK_EVERY_NS
        if self._processors.is_crowded():
            self._crowded_looks = min(self._crowded_looks + 1, _LOOKS)
        elif self._crowded_looks:
            self._crowded_looks -= 1
        if self._crowded_looks == _LOOKS:
            self.is_resting = True
        elif not self._crowded_looks and now_ns >= self._rest_until_ns:
            self.is_resting = False
            if now_ns >= self._rest_until_ns + _FORGET_NS:
                self._rest_ns = 0
