"""``fuseswap estimate``: what memory would take in zram and here, before anything is set up.

Looks at a sample of the anonymous pages of running processes, or at a file of pages.  No device is
needed, no process is stopped, and nothing is written to a disk.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parser import some, whole
from fuseswap.cli.status import table
from fuseswap.cli.targets import processes_in
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.anonymous_memory import AnonymousMemory, sample
from fuseswap.linux.pagemap import processes
from fuseswap.sizes import format_size
from fuseswap.units import PAGE_SIZE

if TYPE_CHECKING:
    from fuseswap.cli.estimation import Estimate

_SAMPLED = 4096
_MOST_SAMPLED = 1 << 16  # 256 MiB of memory here


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "estimate",
        help="what memory would take, before anything is set up",
        description="Show what memory would take in zram and here, from a sample of its pages.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("file", nargs="?", metavar="FILE", help="pages of 4096 bytes, as memory has")
    which.add_argument(
        "--pid", metavar="PID", type=whole, action="append", help="this process; again for more"
    )
    which.add_argument("--cgroup", type=some, metavar="PATH", help="all processes of a cgroup")
    parser.add_argument(
        "--pages",
        metavar="N",
        type=whole,
        default=_SAMPLED,
        help=f"how many pages to look at, chosen at random (default {_SAMPLED})",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table or the JSON."""
    from fuseswap.cli.estimation import estimate  # codecs: not for every command

    if not 1 <= options.pages <= _MOST_SAMPLED:
        raise InvalidArgument(f"--pages is 1 to {_MOST_SAMPLED}")
    chance = random.Random(os.urandom(8))
    swapped = unreadable = 0
    if options.file is not None:
        pages, total = _of_file(options.file, options.pages, chance)
    else:
        memories, unreadable = _memories(_wanted(options), strict=bool(options.pid))
        swapped = sum(one.swapped for one in memories)
        total = sum(one.pages for one in memories)
        try:
            pages = list(sample(memories, options.pages, chance))
        except PermissionError as exc:
            raise HostError(f"process memory may not be read ({exc.strerror}); try sudo") from exc
    if not pages:
        raise HostError("there are no anonymous pages in memory that can be read")
    found = estimate(pages, total)
    if options.json:
        print_json(
            {
                "pages": total,
                "sampled_pages": len(pages),
                "swapped_pages": swapped,
                "unreadable_processes": unreadable,
                "ways": [asdict(one) for one in found],
            }
        )
    else:
        print(*lines(found, total, len(pages), swapped, unreadable), sep="\n")
    return 0


def _wanted(options: argparse.Namespace) -> Iterable[int]:
    if options.pid:
        return list(dict.fromkeys(options.pid))
    found = processes_in(options.cgroup) if options.cgroup else processes()
    return [pid for pid in found if pid != os.getpid()]


def _memories(pids: Iterable[int], *, strict: bool) -> tuple[list[AnonymousMemory], int]:
    """Of ``pids``; and how many may not be looked at, which is an error where ``strict``."""
    found, refused = [], 0
    for pid in pids:
        if strict and not os.path.exists(f"/proc/{pid}"):
            raise InvalidArgument(f"there is no process {pid}")
        try:
            found.append(AnonymousMemory.of(pid))
        except PermissionError:
            if strict:
                raise HostError(f"the memory of process {pid} may not be read; try sudo") from None
            refused += 1
    return found, refused


def _of_file(name: str, most: int, chance: random.Random) -> tuple[list[bytes], int]:
    """A sample of the pages of a file, and how many there are.  Raises `HostError`."""
    path = Path(name)
    with path.open("rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size // PAGE_SIZE
        chosen = sorted(chance.sample(range(total), min(most, total)))
        pages = [os.pread(file.fileno(), PAGE_SIZE, at * PAGE_SIZE) for at in chosen]
    return [page for page in pages if len(page) == PAGE_SIZE], total


def lines(
    found: Iterable[Estimate], total: int, sampled: int, swapped: int, unreadable: int
) -> list[str]:
    """What a person reads."""
    rows = [["", "MEMORY", "+-", "OF-ZRAM-LZ4", "+-", "OPEN-US"]]
    rows.append(["uncompressed", format_size(total * PAGE_SIZE), "", "", "", ""])
    rows += [
        [
            one.name,
            format_size(one.taken_bytes),
            format_size(one.off_bytes),
            f"{one.of_zram:.3f}",
            f"{one.off_of_zram:.3f}",
            "" if one.open_us is None else f"{one.open_us:.1f}",
        ]
        for one in found
    ]
    said = [
        table(rows),
        f"From {sampled} of {total} pages, chosen at random; 19 samples of 20 are not off by more.",
        "OPEN-US: to decompress a page, here and now. A fault of zram is little more;",
        "one of fuseswap has the way through loop and FUSE before it.",
    ]
    if swapped:
        said.append(f"{swapped} more pages are in swap, and were not read.")
    if unreadable:
        said.append(f"{unreadable} processes may not be looked at; try sudo.")
    return said
