"""zswap in front of a device: a block of `status`, and the same as JSON."""

from __future__ import annotations

from typing import Any

from fuseswap.daemon.runtime_dir import runtime_root
from fuseswap.linux.swap_area import memory_bytes
from fuseswap.linux.zswap import Zswap
from fuseswap.linux.zswap_use import zswap_counters, zswap_use
from fuseswap.sizes import format_size


def zswap_status(asked_percent: int) -> dict[str, Any]:
    """Parameters, use and counters of the machine's zswap; empty where the kernel has none.

    ``asked_percent``: of the device, by ``--below-zswap``; 0: it was not asked for.
    """
    zswap = Zswap(runtime_root())
    parameters = zswap.read()
    if not parameters:
        return {}
    return {
        "asked_percent": asked_percent,
        "parameters": parameters,
        "set": zswap.set_by_us(),
        **zswap_use()._asdict(),
        "counters": zswap_counters(),
    }


def zswap_lines(status: dict[str, Any], *, in_bytes: bool) -> list[str]:
    """A block with an empty line before it; nothing where zswap is off and was not asked for."""
    if not status:
        return []
    parameters = status["parameters"]
    if parameters.get("enabled") != "Y":
        switched_off = "  zswap            off, though it was asked for: the device works alone"
        return ["", switched_off] if status["asked_percent"] else []

    def size(number: int) -> str:
        return str(number) if in_bytes else format_size(number)

    percent = int(parameters.get("max_pool_percent", 0))
    most = size(memory_bytes() * percent // 100)
    rows = [
        (
            "zswap in front",
            size(status["pool_bytes"]),
            f"of {size(status['stored_bytes'])} uncompressed; at most {most} ({percent} %), "
            f"{parameters.get('compressor', 'unknown')}",
        ),
        ("", str(status["loaded_pages"]), "pages loaded from it, by all processes"),
        ("", str(status["written_back_pages"]), "pages handed down, to all swap areas"),
    ]
    if not status["asked_percent"]:
        rows.append(("", "", "it was not asked for by this device (--below-zswap)"))
    width = max(len(row[1]) for row in rows)
    return ["", *(f"  {title:<17}{number:>{width}}  {note}" for title, number, note in rows)]
