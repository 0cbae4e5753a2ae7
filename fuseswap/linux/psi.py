"""Memory pressure of the machine: PSI where the kernel has it, else available memory.

PSI (Linux 4.20+, Documentation/accounting/psi.rst) says in which share of the last
ten seconds a task waited for memory.
"""

from __future__ import annotations

from fuseswap.linux.swap_area import meminfo_bytes

SOME_AVG10_PERCENT = 10.0
_LOW_SHARE = 0.05


def some_avg10_percent() -> float | None:
    """``some avg10`` of the machine's memory; None for a kernel without PSI."""
    try:
        with open("/proc/pressure/memory") as file:
            some = file.readline()
    except OSError:
        return None
    return float(some.partition("avg10=")[2].split()[0])


def under_memory_pressure() -> bool:
    """Whether memory should be given back now."""
    percent = some_avg10_percent()
    if percent is None:
        return meminfo_bytes("MemAvailable") < _LOW_SHARE * meminfo_bytes("MemTotal")
    return percent >= SOME_AVG10_PERCENT
