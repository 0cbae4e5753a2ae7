"""How much a hog takes, for each size of guest: fixed numbers, so that runs can be compared.

The figures are of guests without fuseswap: about 45 MiB of memory never reach a process
(kernel image, page tables), another 20 hold what else runs in the guest.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.kernels.scenario import Scenario

SWAP_MIB = 1024
# More than a process can have beside everything else, less than compressed pages hold.
_HOG_MIB = {192: 160, 256: 256, 384: 416, 640: 704}
_TOUCHES_A_PAGE = 0.25
_CACHED = 3  # a third of memory is the file that is read again and again
_ENDLESS = 4  # times the memory: neither compressed nor on a swap file
_OUT_OF_MEMORY_MARGIN_MIB = 256


@dataclass(frozen=True, slots=True)
class Load:
    """What `guest/run.py` is told of the hog."""

    hog_mib: int
    touches: int
    cache_mib: int
    swap_mib: int


def load_of(scenario: Scenario, hog_mib: int | None = None) -> Load:
    """The load of a scenario; ``hog_mib`` instead of the hog's own size."""
    memory = scenario.memory_mib
    if hog_mib is None:
        hog_mib = _HOG_MIB.get(memory, memory + 64)
        if scenario.out_of_memory:
            hog_mib = max(_ENDLESS * memory, memory + SWAP_MIB + _OUT_OF_MEMORY_MARGIN_MIB)
    return Load(hog_mib, int((hog_mib << 8) * _TOUCHES_A_PAGE), memory // _CACHED, SWAP_MIB)
