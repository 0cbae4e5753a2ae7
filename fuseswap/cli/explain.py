"""``fuseswap explain``: where one page is, why, and how it was kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.timed_file import read_file
from fuseswap.sizes import format_size, parse_size
from fuseswap.spelling import is_whole
from fuseswap.units import KIB, PAGE_SHIFT, PAGE_SIZE, PageNumber


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "explain",
        help="where a page is, and why",
        description="Show where one page of a device is, why, and how it was kept.",
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("page", metavar="PAGE", nargs="?", help="its number, from 0")
    parser.add_argument("--offset", metavar="BYTES", help="the page at this byte instead")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a few lines, or the JSON."""
    config = Runtime(options.name).config()
    page = _page(options.page, options.offset)
    pages = config.size_bytes // PAGE_SIZE
    if page >= pages:
        raise InvalidArgument(f"there is no page {page}: {options.name} has {pages}, from 0")
    path = Path(config.mountpoint) / "pages" / str(page)
    try:
        found = json.loads(read_file(path))
    except PermissionError:
        raise HostError("'explain' shows what a page holds; run it as root (sudo)") from None
    except FileNotFoundError:
        raise HostError(f"{options.name} is not mounted, or its worker is older") from None
    if options.json:
        print_json(found)
    else:
        print(*in_words(found), sep="\n")
    return 0


def _page(number: str | None, offset: str | None) -> PageNumber:
    if (number is None) == (offset is None):
        raise InvalidArgument("give the number of a page, or --offset BYTES")
    if offset is not None:
        return parse_size(offset) >> PAGE_SHIFT
    if number is None or not is_whole(number):
        raise InvalidArgument(f"'{number}' is not the number of a page")
    return PageNumber(int(number))


def in_words(found: dict[str, Any]) -> list[str]:
    """The lines a person reads; ``found`` is what the file ``pages/NUMBER`` says."""
    rows = [
        ("where", _where(found)),
        ("why", found["why"]),
        ("backend", found.get("backend") or ""),
        ("kept as", _kept_as(found)),
        ("segment", _segment(found)),
        ("loaded", _loaded(found)),
        ("shared", _shared(found)),
        ("checksum", _checksum(found)),
    ]
    lines = [f"page {found['page']}, at {format_size(found['page'] * PAGE_SIZE)}"]
    return lines + [f"  {title:<10}{text}" for title, text in rows if text]


def _where(found: dict[str, Any]) -> str:
    if found.get("slot") is not None:
        return f"in slot {found['slot']} of {found['where']}"
    tier = found.get("tier")
    if tier is not None and found["where"] != "backing file":
        at = f" of its file, at byte {found['file_offset']}" if found["file_offset"] else ""
        return f"on tier {tier}, extent {found['extent']}{at}"
    if found["file_offset"] is None:
        words = {
            "hole": "nowhere: a hole",
            "same-filled": "in its slot word",
            "memory": "in memory",
        }
        return words.get(found["where"], str(found["where"]))
    where = "the backing file" if found["where"] == "backing file" else "its place on the file"
    return f"on {where}, at byte {found['file_offset']}"


def _kept_as(found: dict[str, Any]) -> str:
    if found["fill"]:
        return f"{found['fill']}, repeated"
    if not found["stored_bytes"]:
        return ""
    codec, size = found["codec"] or "nothing known", found["stored_bytes"]
    if found["dictionary"] is not None:
        size_kib = found["dictionary_bytes"] // KIB
        codec += f" with dictionary {found['dictionary']} of {size_kib} KiB"
    return f"{codec}, {size} bytes ({size * 100 // PAGE_SIZE} %)"


def _segment(found: dict[str, Any]) -> str:
    if found["segment"] is None:
        return ""
    age = "still open" if found["segment_is_open"] else f"sealed {found['age_seconds']} s ago"
    return f"{found['segment']}, {age}"


def _loaded(found: dict[str, Any]) -> str:
    loaded = found["loaded_since_stored"]
    return "" if loaded is None else "since it was stored" if loaded else "not since it was stored"


def _shared(found: dict[str, Any]) -> str:
    others = (found["pages"] or 1) - 1
    return f"with {others} other page{'s' * (others > 1)}" if others else ""


def _checksum(found: dict[str, Any]) -> str:
    return {"not read": "not looked at: it is not in memory"}.get(
        found["checksum"], found["checksum"] or ""
    )
