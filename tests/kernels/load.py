"""How much a hog takes, for each size of guest: fixed numbers, so that runs can be compared.

Of 192, 256, 384 and 640 MiB a process could have 103, 175, 300 and 550 beside kernel and
bystanders.  fuseswap itself takes 60 to 90 of that, and its pages compress to less than a
half; what it has left is what a hog may have more than compressed pages can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.kernels.scenario import Scenario

SWAP_MIB = 1024
_HOG_MIB = {192: 72, 256: 176, 384: 400, 640: 736}
_TOUCHES_A_PAGE = 0.25
_CACHED = 3  # a third of memory is the file that is read again and again
# Times the memory, where it is to run out for good: a hog larger than memory and swap.
_ENDLESS_HOG, _ENDLESS_SWAP = 4, 2


@dataclass(frozen=True, slots=True)
class Load:
    """What `guest/run.py` is told of the hog."""

    hog_mib: int
    touches: int
    cache_mib: int
    swap_mib: int


def load_of(scenario: Scenario) -> Load:
    """The load of a scenario."""
    memory = scenario.memory_mib
    hog_mib, swap_mib = _HOG_MIB.get(memory, memory + 64), SWAP_MIB
    if scenario.out_of_memory:
        hog_mib, swap_mib = _ENDLESS_HOG * memory, _ENDLESS_SWAP * memory
    hog_mib = scenario.hog_mib or hog_mib
    return Load(hog_mib, int((hog_mib << 8) * _TOUCHES_A_PAGE), memory // _CACHED, swap_mib)
