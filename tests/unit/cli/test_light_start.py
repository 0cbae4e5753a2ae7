"""What a command imports before it does anything: where memory is short, little may be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.cli.commands import build_parser

pytestmark = pytest.mark.slow

# How each begins for real, and ends at once: there is no device, and nothing is as it should be.
STARTS = {
    "up": ("--size", "1"),
    "down": (),
    "restart": (),
    "status": (),
    "top": ("--batch", "--count", "1"),
    "ps": (),
    "report": (),
    "out": ("--help",),
    "in": ("--help",),
    "explain": ("swap0", "0"),
    "get": ("swap0",),
    "set": ("swap0", "dedup=on"),
    "tier": ("list",),
    "writeback": (),
    "recompress": (),
    "scrub": (),
    "backend": ("list",),
    "shrink": ("1G",),
    "trace": ("stop",),
    "simulate": ("--help",),
    "config": ("--help",),
    "check": ("--help",),
    "estimate": ("--help",),
    "demo": ("--help",),
    "run": ("--help",),
    "plugins": ("--help",),
    "install-host": ("--help",),
    "mount": ("none", "/nonexistent"),
}
LIBRARIES = {"coredis", "cryptography", "drawsvg", "lz4", "pyfuse3", "trio", "xxhash", "zstandard"}
ROOMS = ("codecs", "core", "dedup", "filesystem", "frontswap", "reclaim", "store", "transport")
# Of these rooms: names, sizes and words of requests.
LIGHT = {
    "codecs.names",
    "filesystem.metrics_text",
    "filesystem.parameter_values",
    "filesystem.parameters",
    "filesystem.policy_settings",
    "filesystem.recompression_settings",
    "frontswap.raw_size",
    "reclaim.page_ranges",
    "reclaim.request",
    "reclaim.scrub_request",
    "store.geometry",
    "store.latency_histogram",
    "store.segment_entry",
}
# They read the tables in shared memory.
TABLES = {
    "codecs.call_notes",
    "codecs.codec",
    "frontswap.backend",
    "store.checked_record",
    "store.memory_reserve",
    "store.object_size",
    "store.region",
    "store.slot_table",
    "store.slot_word",
    "store.superblock",
    "store.table_view",
}
RING = {"frontswap.trace_ring", "store.region"}
MORE = {"ps": TABLES, "out": TABLES, "trace": RING}
START = """
import sys
from fuseswap.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print()
print(*sys.modules)
"""


def imported(root: Path, *arguments: str) -> set[str]:
    """The modules there are in a process that has run ``fuseswap`` with ``arguments``."""
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments],
        env={**os.environ, "FUSESWAP_RUNTIME_DIR": str(root)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_each_command_is_here() -> None:
    actions = [one for one in build_parser()._actions if one.dest == "command"]
    assert actions
    assert actions[0].choices is not None
    assert list(STARTS) == list(actions[0].choices)


def test_no_argument_of_a_command_stands_for_its_name() -> None:
    """`sets.run` looks at ``options.command``."""
    (commands,) = (one for one in build_parser()._actions if one.dest == "command")
    assert isinstance(commands.choices, dict)
    for parser in commands.choices.values():
        assert "command" not in {action.dest for action in parser._actions}


@pytest.mark.parametrize("command", STARTS)
def test_it_imports_neither_the_device_nor_its_libraries(command: str, tmp_path: Path) -> None:
    found = imported(tmp_path, command, *STARTS[command])
    assert not LIBRARIES & found
    names = [name.split(".") for name in found if name.startswith("fuseswap.")]
    heavy = {".".join(name[1:]) for name in names if name[1] in ROOMS and len(name) > 2}
    assert heavy - LIGHT - MORE.get(command, set()) == set()


def test_a_command_is_imported_alone(tmp_path: Path) -> None:
    found = imported(tmp_path, "down")
    assert "fuseswap.cli.down" in found
    assert not {"fuseswap.cli.up", "fuseswap.cli.status", "fuseswap.daemon.config"} & found
