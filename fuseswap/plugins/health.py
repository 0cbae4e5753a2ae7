"""The health of a plugin: what it did wrong, how often, and whether it is set aside.

    raised    an exception, whichever
    wrong     what it answered is not what was asked for
    blocked   the answer took `STALL_S` or more.  It can't be interrupted, only noticed

A caller of a plugin catches what it does, goes on without it, and says so here.  The first
fault of each sort is logged with the name of the package; more are counted.  After `MOST_FAULTS`,
or `MOST_STALLS`, it is set aside until the worker is replaced, which is logged too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fuseswap.counting import counter, gauge, zeros

log = logging.getLogger(__name__)

STALL_S = 0.5
MOST_FAULTS = 8
MOST_STALLS = 3  # each one keeps the kernel waiting


@dataclass(slots=True)
class PluginStatistics:
    """What one plugin did wrong."""

    kind: str
    plugin: str
    plugin_faults: int = counter(
        "Times a plugin raised, or answered wrongly; no page was lost.", labels=("kind", "plugin")
    )
    plugin_stalls: int = counter(
        "Times a plugin took half a second or more.", labels=("kind", "plugin")
    )
    plugin_set_aside: int = gauge(
        "1 or 0", "Whether a plugin is not asked any more.", labels=("kind", "plugin")
    )


class PluginHealth:
    """Of one plugin in one worker."""

    def __init__(
        self,
        kind: str,
        name: str,
        label: str,
        instead: str,
        *,
        most_faults: int = MOST_FAULTS,
        most_stalls: int = MOST_STALLS,
    ) -> None:
        """``label``: kind, name, package and version; ``instead``: who goes on without it."""
        self.name = name
        self.label = label
        self._instead = instead
        self._most_faults = most_faults
        self._most_stalls = most_stalls
        self.counters = zeros(PluginStatistics, kind=kind, plugin=name)
        # Sorts of faults that were logged: at most three.
        self._logged: set[str] = set()

    @property
    def is_set_aside(self) -> bool:
        """Whether it is not asked any more."""
        return self.counters.plugin_set_aside > 0

    def note_raised(self, reason: str) -> None:
        """It raised ``reason``."""
        self._note_fault("raised", reason)

    def note_wrong(self, reason: str) -> None:
        """Its answer was refused: ``reason``."""
        self._note_fault("wrong", reason)

    def note_time(self, seconds: float) -> None:
        """A call took ``seconds``."""
        if seconds < STALL_S:
            return
        self.counters.plugin_stalls += 1
        self._log_first("blocked", f"blocked for {seconds:.1f} s")
        if self.counters.plugin_stalls >= self._most_stalls:
            self.set_aside(f"blocked {self.counters.plugin_stalls} times")

    def set_aside(self, reason: str) -> None:
        """Ask it no more."""
        if not self.is_set_aside:
            self.counters.plugin_set_aside = 1
            log.error("%s is set aside, %s goes on: %s", self.label, self._instead, reason)

    def _note_fault(self, sort: str, reason: str) -> None:
        self.counters.plugin_faults += 1
        self._log_first(sort, reason)
        if self.counters.plugin_faults >= self._most_faults:
            self.set_aside(f"{self.counters.plugin_faults} faults")

    def _log_first(self, sort: str, reason: str) -> None:
        if sort not in self._logged:
            self._logged.add(sort)
            log.error("%s is at fault: %s", self.label, reason)
