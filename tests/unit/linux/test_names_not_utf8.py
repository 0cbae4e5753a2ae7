"""Files of the kernel that hold paths, also those of others, in which any byte may be."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from fuseswap.linux import loop, mount, swap_area

MOUNTS = (
    b"tmpfs /mnt/\xff tmpfs rw 0 0\n"
    b"fuseswap /mnt/ours\\040\xfe fuse.fuseswap rw 0 0\n"
    b"fuseswap /mnt/no\xc2\xa0break fuse.fuseswap rw 0 0\n"
)
MOUNTINFO = (
    b"40 31 0:33 / /mnt/\xff rw - tmpfs tmpfs rw\n"
    b"41 31 0:44 / /mnt/no\xc2\xa0break\xfe rw - fuse.fuseswap fuseswap rw\n"
)
SWAPS = b"Filename Type Size Used Priority\n/swap\xff file 2048 4 -2\n/dev/loop7 partition 8 0 5\n"


@pytest.fixture(autouse=True)
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those files in /proc."""
    contents = {
        "/proc/self/mounts": MOUNTS,
        "/proc/self/mountinfo": MOUNTINFO,
        "/proc/swaps": SWAPS,
    }

    def opened(path: str, *arguments: Any, **more: Any) -> Any:
        file = tmp_path / Path(path).name
        file.write_bytes(contents[path])
        return builtins.open(file, *arguments, **more)

    for module in (mount, swap_area):
        monkeypatch.setattr(module, "open", opened, raising=False)


def test_mountpoints() -> None:
    assert mount.mountpoints() == ["/mnt/ours \udcfe", "/mnt/no\u00a0break"]
    assert mount.is_mounted("/mnt/no\u00a0break")
    assert mount.connection_of("/mnt/no\u00a0break\udcfe") == "44"


def test_swap_areas() -> None:
    assert [area.device for area in swap_area.areas()] == ["/swap\udcff", "/dev/loop7"]


def test_the_backing_file_of_a_loop_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop7/loop").mkdir(parents=True)
    (tmp_path / "loop7/loop/backing_file").write_bytes(b"/mnt/\xff/swapfile\n")
    monkeypatch.setattr(loop, "_BLOCK", tmp_path)
    assert loop.backing_of("/dev/loop7") == "/mnt/\udcff/swapfile"
