"""Whether an idle processor waits a moment before it sleeps: on a virtual machine that decides
what a fault costs.

A fault is two or three wake-ups.  Where the processor has gone to sleep (HLT, an exit to the
host) each costs 10 us and more.  Linux guests with the haltpoll governor may poll before: for
how long at most, ``guest_halt_poll_ns`` says, and some hosts start their guests with 0.
Measured in docs/benchmarks.md.  Nothing here changes it: it is the administrator's.
"""

from __future__ import annotations

from pathlib import Path

HALT_POLL = Path("/sys/module/haltpoll/parameters/guest_halt_poll_ns")
WORTH_NS = 50_000
_GOVERNOR = Path("/sys/devices/system/cpu/cpuidle/current_governor_ro")


def guest_halt_poll_ns(governor: Path = _GOVERNOR, setting: Path = HALT_POLL) -> int | None:
    """How long an idle processor of this guest polls at most; None where none would anyway."""
    try:
        if governor.read_text().strip() != "haltpoll":
            return None
        return int(setting.read_text())
    except (OSError, ValueError):
        return None
