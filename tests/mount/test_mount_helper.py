"""``mount -t fuseswap`` and ``umount``, through mount.fuseswap in /sbin."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import mount
from tests.support import pages
from tests.support.mounted_devices import (
    SOURCE,
    must,
    new_name,
    processes_of,
    run,
    tear_down,
    wait_until,
)

_LINKS = {
    Path("/usr/local/bin/fuseswap"): Path(sys.executable).parent / "fuseswap",
    Path("/sbin/mount.fuseswap"): SOURCE / "mount" / "mount.fuseswap",
}


def _point(link: Path, target: Path) -> None:
    """Make `link` lead to `target`, whatever stood there, in one step."""
    beside = link.with_name(f"{link.name}.{os.getpid()}")
    beside.symlink_to(target)
    beside.replace(link)


@pytest.fixture(scope="module")
def _helper() -> Iterator[None]:
    """Links to this tree where quickstart installs copies; what stood there comes back."""
    before = {link: link.with_name(f"{link.name}.{os.getpid()}.before") for link in _LINKS}
    try:
        for link, target in _LINKS.items():
            if os.path.lexists(link):
                link.rename(before[link])
            _point(link, target)
        yield
    finally:
        for link, aside in before.items():
            link.unlink(missing_ok=True)
            if os.path.lexists(aside):
                aside.rename(link)


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    chosen = new_name()
    yield chosen
    tear_down(chosen, str(tmp_path))


@pytest.mark.usefixtures("_helper")
def test_mount_and_umount(tmp_path: Path, name: str) -> None:
    options = f"size=96M,compressor=zstd:2,sync_all,name={name}"
    done = run(["mount", "-t", "fuseswap", "none", str(tmp_path), "-o", options])
    assert done.returncode != 0, "sync_all is nobody's"
    options = f"size=96M,compressor=zstd:2,defaults,noatime,name={name}"
    must("mount", "-t", "fuseswap", "none", str(tmp_path), "-o", options)
    assert (tmp_path / "swapfile").stat().st_size == 96 << 20
    assert (tmp_path / "params" / "compressor").read_text() == "zstd:2\n"
    must("umount", str(tmp_path))
    assert not mount.is_mounted(str(tmp_path))
    wait_until("the processes to end", lambda: not processes_of(name))
    wait_until("the directory to go", lambda: not Runtime(name).directory.exists())


@pytest.mark.usefixtures("_helper")
def test_read_only(tmp_path: Path, name: str) -> None:
    options = f"ro,nofail,lazytime,discard,comment=cold,size=64M,name={name}"
    must("mount", "-t", "fuseswap", "none", str(tmp_path), "-o", options)
    try:
        assert (tmp_path / "swapfile").read_bytes()[:4096] == bytes(4096)
        for each in ("swapfile", "params/compressor"):
            with pytest.raises(OSError, match="Read-only"):
                (tmp_path / each).write_text("zstd\n")
    finally:
        must("umount", str(tmp_path))


@pytest.mark.usefixtures("_helper")
def test_the_layout_in_place(tmp_path: Path, name: str) -> None:
    backing, directory = tmp_path / "backing", tmp_path / "d"
    directory.mkdir()
    options = f"size=16M,backing_layout=in-place,name={name}"
    must("mount", "-t", "fuseswap", str(backing), str(directory), "-o", options)
    try:
        ratio = directory / "params" / "max_compression_ratio"
        ratio.write_text("50")
        data = pages.incompressible(1)
        with open(directory / "swapfile", "r+b", buffering=0) as file:
            file.write(data)
        assert (directory / "stats" / "in_place_stores").read_text() == "1\n"
        assert data not in backing.read_bytes(), "it is encrypted"
        assert (directory / "swapfile").read_bytes()[:8192] == data + bytes(4096)
    finally:
        must("umount", str(directory))
        wait_until("the directory to go", lambda: not Runtime(name).directory.exists())


@pytest.mark.usefixtures("_helper")
def test_the_name_comes_from_the_path(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    must("mount", "-t", "fuseswap", "none", str(directory), "-o", "size=64M")
    name = str(directory).strip("/").replace("/", "-")[-32:].lstrip("-_.")
    try:
        assert Runtime(name).exists()
        assert mount.is_mounted(str(directory))
    finally:
        must("umount", str(directory))
        wait_until("the directory to go", lambda: not Runtime(name).directory.exists())


@pytest.mark.usefixtures("_helper")
def test_a_busy_file_is_not_unmounted(tmp_path: Path, name: str) -> None:
    must("mount", "-t", "fuseswap", "none", str(tmp_path), "-o", f"size=64M,name={name}")
    with open(tmp_path / "swapfile", "r+b", buffering=0) as file:
        assert run(["umount", str(tmp_path)]).returncode != 0
        file.write(b"still here")
    must("umount", str(tmp_path))


@pytest.mark.usefixtures("_helper")
def test_a_failure_is_told(tmp_path: Path) -> None:
    done = run(["mount", "-t", "fuseswap", "none", str(tmp_path), "-o", "size=large"])
    assert done.returncode == 1
    assert "large" in done.stderr
