"""A scenario: which guest, which swap, which hog, what goes wrong.  Its name says all of it.

6.12-384-c                      C hog, 384 MiB, fuseswap without a backing file
6.12-384-c-file                 the same on a plain swap file: what fuseswap is compared with
6.1-256-python-packed-kill.both a backing file; worker and supervisor are killed
7-192-tmpfs-zram
6.12-384-c-remote               cold pages go to a server on another machine: on the host
6.12-640-c-oom                  more than can be held: the hog has to go, and nothing else
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

# By the name a person uses: the Debian suite whose linux-image-cloud-amd64 it is.
KERNELS = {"6.1": "bookworm", "6.12": "bookworm-backports", "7": "trixie-backports"}
MEMORY_MIB = (192, 256, 384, 640)
HOGS = ("python", "c", "cache", "tmpfs", "fork")
SWAPS = ("fuseswap", "file", "zram")
BACKINGS = ("none", "packed", "in-place", "remote")
KILLS = ("none", "worker", "supervisor", "both")


class BadName(ValueError):
    """No scenario has that name."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One guest, one hog."""

    kernel: str = "6.12"
    memory_mib: int = 384
    hog: str = "c"
    swap: str = "fuseswap"
    backing: str = "none"
    kill: str = "none"
    out_of_memory: bool = False
    hog_mib: int = 0  # 0: as load.py has it

    @property
    def name(self) -> str:
        """What `parse` reads; also the name of its directory."""
        parts = [self.kernel, str(self.memory_mib), self.hog]
        if self.hog_mib:
            parts.append(f"{self.hog_mib}m")
        if self.swap != "fuseswap":
            parts.append(self.swap)
        if self.backing != "none":
            parts.append(self.backing.replace("-", ""))
        if self.kill != "none":
            parts.append(f"kill.{self.kill}")
        if self.out_of_memory:
            parts.append("oom")
        return "-".join(parts)

    def on(self, swap: str) -> Scenario:
        """The control of this one: the same hog in the same guest on another swap."""
        return replace(self, swap=swap, backing="none", kill="none")


def parse(name: str) -> Scenario:
    """The scenario of that name; raises `BadName`."""
    kernel, *rest = name.split("-")
    try:
        memory, hog, *rest = rest
        scenario = Scenario(kernel, int(memory), hog)
    except ValueError:
        raise BadName(f"'{name}' is not KERNEL-MEMORY-HOG[-...]") from None
    if kernel not in KERNELS or hog not in HOGS:
        raise BadName(f"'{name}': kernels are {', '.join(KERNELS)}; hogs {', '.join(HOGS)}")
    backings = {backing.replace("-", ""): backing for backing in BACKINGS[1:]}
    for part in rest:
        if part in SWAPS[1:]:
            scenario = replace(scenario, swap=part)
        elif part in backings:
            scenario = replace(scenario, backing=backings[part])
        elif part.removeprefix("kill.") in KILLS[1:] and part.startswith("kill."):
            scenario = replace(scenario, kill=part.removeprefix("kill."))
        elif part == "oom":
            scenario = replace(scenario, out_of_memory=True)
        elif part.removesuffix("m").isdigit() and part.endswith("m"):
            scenario = replace(scenario, hog_mib=int(part.removesuffix("m")))
        else:
            raise BadName(f"'{name}': '{part}' is no size, swap, backing, kill.WHAT or oom")
    return scenario


def matrix(
    kernels: Iterable[str],
    memory_mib: Iterable[int],
    hogs: Iterable[str],
    backings: Iterable[str] = ("none",),
    kills: Iterable[str] = ("none",),
    out_of_memory: Iterable[bool] = (False,),
    controls: Iterable[str] = (),
    hog_mib: int = 0,
) -> Iterator[Scenario]:
    """Every combination, each one's controls just before the first that needs them."""
    controls = tuple(controls)
    seen = set()
    product = itertools.product(kernels, memory_mib, hogs, backings, kills, out_of_memory)
    for kernel, memory, hog, backing, kill, oom in product:
        if oom and not can_run_out(hog):
            continue
        wanted = Scenario(kernel, memory, hog, "fuseswap", backing, kill, oom, hog_mib)
        for scenario in (*(wanted.on(swap) for swap in controls), wanted):
            if scenario not in seen:
                seen.add(scenario)
                yield scenario


def can_run_out(hog: str) -> bool:
    """Whether an end of the hog gives its memory back: a file on a tmpfs stays."""
    return hog != "tmpfs"


def _groups() -> dict[str, tuple[Scenario, ...]]:
    kernels, both = tuple(KERNELS), ("none", "packed")
    groups = {
        # Small enough for both within four minutes on two processors without KVM.
        "ci": (
            Scenario("6.12", 384, "c", hog_mib=256),
            Scenario("6.1", 384, "python", hog_mib=256),
        ),
        "controls": tuple(
            Scenario(kernel, memory, hog, swap)
            for kernel, memory, hog, swap in itertools.product(kernels, MEMORY_MIB, HOGS, SWAPS[1:])
        ),
        "pressure": tuple(matrix(kernels, MEMORY_MIB, HOGS)),
        # As much as without a device, and more than compressed pages could hold.
        "backing": tuple(
            scenario
            for memory in MEMORY_MIB
            for scenario in matrix(
                kernels, (memory,), ("c", "python"), BACKINGS[1:3], hog_mib=memory + 64
            )
        ),
        "remote": tuple(matrix(kernels, (384,), ("c",), ("remote",), ("none", "worker", "both"))),
        "kills": tuple(matrix(kernels, (384,), ("c",), both, KILLS[1:])),
        "oom": tuple(matrix(kernels, MEMORY_MIB, ("c", "python"), both, out_of_memory=(True,))),
    }
    return {**groups, "all": tuple(dict.fromkeys(itertools.chain(*groups.values())))}


GROUPS = _groups()
