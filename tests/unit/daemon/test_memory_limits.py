"""Which limit of memory a process is under, in made-up trees of both cgroup versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.daemon import memory_limits
from fuseswap.errors import HostError
from fuseswap.units import GIB, MIB

V1_HUGE = "9223372036854771712"


class Tree:
    """A /proc/self and a cgroup hierarchy below one directory."""

    def __init__(self, root: Path, version: int, path: str, seen_root: str = "/") -> None:
        self.proc, self.top = root / "proc", root / "cgroup"
        self.proc.mkdir()
        self.top.mkdir()
        member = f"4:cpu,memory:{path}\n0::/\n" if version == 1 else f"0::{path}\n"
        kind = "cgroup cgroup rw,memory" if version == 1 else "cgroup2 cgroup2 rw"
        (self.proc / "cgroup").write_text(member)
        mount = f"35 31 0:32 {seen_root} {self.top} rw,relatime - {kind}\n"
        (self.proc / "mountinfo").write_text(f"1 0 0:1 / / rw - ext4 /dev/vda rw\n{mount}")

    def put(self, path: str, **files: str) -> None:
        directory = self.top / path
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / f"memory.{name}").write_text(f"{text}\n")


def test_version_1_takes_the_tightest_ancestor(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1, "/a/b")
    tree.put("", limit_in_bytes=V1_HUGE)
    tree.put("a", limit_in_bytes=str(64 * MIB), usage_in_bytes=str(60 * MIB))
    tree.put("a/b", limit_in_bytes=str(256 * MIB), usage_in_bytes=str(MIB))
    (tree.top / "a/memory.stat").write_text(f"total_inactive_file {50 * MIB}\nactive_file 7\n")
    limit = memory_limits.tightest(tree.proc)
    assert limit is not None
    assert limit.path == tree.top / "a/memory.limit_in_bytes"
    assert limit.left_bytes == 54 * MIB


def test_version_1_without_hierarchy_ends_at_the_own_cgroup(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1, "/a/b")
    tree.put("a", limit_in_bytes=str(64 * MIB), use_hierarchy="0")
    tree.put("a/b", limit_in_bytes=V1_HUGE)
    assert memory_limits.tightest(tree.proc) is None


def test_a_mountpoint_of_others_that_is_not_utf8(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 2, "/a")
    tree.put("a", max=str(100 * MIB), current=str(MIB))
    with open(tree.proc / "mountinfo", "ab") as mounts:
        mounts.write(b"40 31 0:33 / /mnt/\xff rw - tmpfs tmpfs rw\n")
    assert memory_limits.tightest(tree.proc) is not None


@pytest.mark.parametrize("name", ["max", "high"])
def test_version_2_knows_both_limits(tmp_path: Path, name: str) -> None:
    tree = Tree(tmp_path, 2, "/a/b")
    tree.put("a", **{"max": "max", "high": "max", name: str(100 * MIB)}, current=str(MIB))
    tree.put("a/b", max="max", high="max")
    limit = memory_limits.tightest(tree.proc)
    assert limit is not None
    assert (limit.path.name, limit.left_bytes) == (f"memory.{name}", 99 * MIB)


@pytest.mark.parametrize("path", ["/", "/../else"])
def test_in_a_namespace_what_is_seen_counts(tmp_path: Path, path: str) -> None:
    tree = Tree(tmp_path, 2, path)
    tree.put("", max=str(64 * MIB))
    limit = memory_limits.tightest(tree.proc)
    assert limit is not None
    assert limit.limit_bytes == 64 * MIB


def test_a_part_of_the_tree_is_mounted(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 1, "/docker/x/y", seen_root="/docker/x")
    tree.put("y", limit_in_bytes=str(64 * MIB))
    assert memory_limits.tightest(tree.proc) is not None


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    assert memory_limits.tightest(tmp_path) is None


def test_the_refusal_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limits, "memory_bytes", lambda: 8 * GIB)
    tree = Tree(tmp_path, 2, "/a")
    tree.put("a", max=str(400 * MIB))
    memory_limits.require(256 * MIB, tree.proc)
    with pytest.raises(HostError) as caught:
        memory_limits.require(330 * MIB, tree.proc)
    for words in (str(tree.top / "a"), "400M", "420M", "--pool-limit", "memory.max"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(HostError, match="the machine's 8G"):
        memory_limits.require(9 * GIB, tree.proc)


def test_crowding() -> None:
    assert memory_limits.crowding(2 * GIB, 8 * GIB) is None
    assert "--pool-limit 198M" in (memory_limits.crowding(345 * MIB, 384 * MIB) or "")
    assert "leaves the kernel" in (memory_limits.crowding(90 * MIB, 100 * MIB) or "")
