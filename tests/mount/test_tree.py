"""The tree at the mountpoint: names, modes, numbers, and what `stat` and `df` say."""

from __future__ import annotations

import json
import mmap
import os
import stat

import pytest

from fuseswap.filesystem.openmetrics import metric_name
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, run, wait_until

pytestmark = pytest.mark.no_swap

SIZE = 64 * MIB
NAMES = ["metrics", "metrics.prom", "pages", "params", "stats", "swapfile"]


# There is a number of each tier, mirror and plugin, and here is none of them.  Times are there once
# a request was.
TIMES = {one.name for one in STATISTICS if "place" in one.labels}
NONE_HERE = {"tier", "plugin", "mirror", "place"}
HERE = [one for one in STATISTICS if not NONE_HERE & set(one.labels)]


def test_names(device: TestDevice) -> None:
    assert sorted(os.listdir(device.mountpoint)) == NAMES
    stats = os.listdir(device.mountpoint / "stats")
    assert {name.partition(".")[0] for name in stats} - TIMES == {s.name for s in HERE}
    labelled = {s.name for s in STATISTICS if s.labels}
    assert {name for name in stats if "." not in name} == {s.name for s in STATISTICS} - labelled
    assert sorted(os.listdir(device.mountpoint / "params")) == sorted(p.name for p in PARAMETERS)
    kinds = {entry.name: entry.is_dir() for entry in os.scandir(device.mountpoint)}
    assert kinds == {
        "metrics": False,
        "metrics.prom": False,
        "pages": True,
        "params": True,
        "stats": True,
        "swapfile": False,
    }
    assert os.listdir(device.mountpoint / "pages") == []


def test_modes(device: TestDevice) -> None:
    found = device.swapfile.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (found.st_uid, found.st_gid, found.st_nlink) == (0, 0, 1)
    assert found.st_size == SIZE
    assert stat.S_IMODE(device.mountpoint.stat().st_mode) == 0o555
    assert stat.S_IMODE((device.mountpoint / "stats" / "loads").stat().st_mode) == 0o444
    assert stat.S_IMODE((device.mountpoint / "params" / "compressor").stat().st_mode) == 0o644
    assert stat.S_IMODE((device.mountpoint / "pages").stat().st_mode) == 0o500
    assert stat.S_IMODE((device.mountpoint / "pages" / "0").stat().st_mode) == 0o400


def test_nothing_can_be_made_or_removed(device: TestDevice) -> None:
    for path in (device.mountpoint / "new", device.mountpoint / "stats" / "new"):
        with pytest.raises(PermissionError):
            path.write_text("")
        with pytest.raises(PermissionError):
            path.mkdir()
        with pytest.raises(PermissionError):
            path.symlink_to("swapfile")
    with pytest.raises(PermissionError):
        device.swapfile.unlink()
    with pytest.raises(PermissionError):
        (device.mountpoint / "stats").rmdir()
    with pytest.raises(PermissionError):
        device.swapfile.rename(device.mountpoint / "new")
    with pytest.raises(PermissionError):
        os.utime(device.swapfile)  # Path.touch takes no for an answer
    with pytest.raises(PermissionError):
        device.swapfile.chmod(0o666)
    with pytest.raises(FileNotFoundError):
        (device.mountpoint / "nothing").stat()
    assert sorted(os.listdir(device.mountpoint)) == NAMES


def test_the_swapfile_is_mapped_by_nobody_for_all(device: TestDevice) -> None:
    """Dirty pages of the cache would be written back when memory is short: ENODEV, as mmap(2)."""
    with open(device.swapfile, "r+b") as file:
        with pytest.raises(OSError, match="No such device"):
            mmap.mmap(file.fileno(), 4096, mmap.MAP_SHARED)
        mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE).close()


def test_statistics_are_one_number_each(device: TestDevice) -> None:
    for name in os.listdir(device.mountpoint / "stats"):
        text = (device.mountpoint / "stats" / name).read_text()
        assert text == f"{int(text)}\n"
    before = device.stat("requests")
    with pytest.raises(FileNotFoundError):
        (device.mountpoint / "nothing").stat()
    wait_until("requests to be counted", lambda: device.stat("requests") > before)
    with pytest.raises(PermissionError), open(device.mountpoint / "stats/loads", "r+b", 0) as file:
        file.write(b"1")


def test_metrics_are_open_metrics(device: TestDevice) -> None:
    text = (device.mountpoint / "metrics").read_text()
    assert text.endswith("# EOF\n")
    for statistic in HERE:
        assert f"\n{metric_name(statistic)}{{" in text
    assert "# EOF" not in (device.mountpoint / "metrics.prom").read_text()


def test_every_page_explains_itself(device: TestDevice) -> None:
    pages = device.mountpoint / "pages"
    with open(device.swapfile, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"1234" * 1024, 4096)
        os.pwrite(file.fileno(), os.urandom(4096), 8192)
    found = [json.loads((pages / str(page)).read_text()) for page in (0, 1, 2, SIZE // 4096 - 1)]
    assert [one["where"] for one in found] == ["hole", "same-filled", "memory", "hole"]
    assert (found[1]["fill"], found[2]["codec"]) == ("0x3433323134333231", "raw")
    assert found[2]["checksum"] == "ok"
    for name in (str(SIZE // 4096), "00", "x", "-1"):
        with pytest.raises(FileNotFoundError):
            (pages / name).stat()
    with pytest.raises(OSError, match=r"\[Errno"):
        (pages / "0").write_text("1")


def test_a_page_is_nobody_elses_business(device: TestDevice) -> None:
    for path in ("pages", "pages/0"):
        done = run(
            ("setpriv", "--reuid=65534", "--clear-groups", "cat", str(device.mountpoint / path))
        )
        assert done.returncode != 0
        assert "Permission denied" in done.stderr


def test_stat_and_df_tell_the_truth(device: TestDevice) -> None:
    before, files = os.statvfs(device.mountpoint), device.mountpoint.stat().st_size
    assert before.f_frsize == 4096
    assert before.f_files == 0  # `df -i` shows a dash, and no monitor an alarm
    assert before.f_blocks == SIZE // 4096
    assert files == 0
    pages = 512
    with open(device.swapfile, "r+b", buffering=0) as file:
        for page in range(pages):
            os.pwrite(file.fileno(), os.urandom(4096), SIZE // 2 + page * 4096)
        after = os.statvfs(device.mountpoint)
        assert before.f_bfree - after.f_bfree == pages
        # Housekeeping comes between the two once a second, and may give memory back.
        wait_until(
            "both to say the same",
            lambda: os.fstat(file.fileno()).st_blocks * 512 == device.stat("mem_used_total"),
        )
        held = os.fstat(file.fileno()).st_blocks * 512
    assert pages * 4096 <= held < 2 * pages * 4096 + 4 * MIB
