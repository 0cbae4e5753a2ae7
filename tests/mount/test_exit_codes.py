"""Exit codes: 1 usage, 2 system, 32 mount failure; each with one line on standard error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import runtime_root
from fuseswap.linux import mount
from tests.support.mounted_devices import (
    AS_NOBODY,
    NOBODY,
    TestDevice,
    call,
    device_mounted,
    fuseswap_command,
    new_name,
    run,
    taken_down,
)

pytestmark = pytest.mark.no_swap


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDevice]:
    with device_mounted(tmp_path_factory.mktemp("mnt"), "size=64M") as device:
        yield device


def expect(code: int, *arguments: str, says: str = "") -> str:
    """Run the command, check its code and its one line; returns the line."""
    done = call(*arguments)
    assert done.returncode == code, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("fuseswap"), lines[0]
    assert says in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--help"),
        (("nonsense",), "nonsense"),
        (("up", "--nonsense"), "--nonsense"),
        (("up", "--size", "large"), "large"),
        (("up", "--size", "0"), "size"),
        (("up", "--size", "512K"), "size"),
        (("up", "--size", "17T"), "size"),
        (("up", "--pool-limit", "101%"), "101%"),
        (("up", "--pool-limit", "1M"), "1M"),
        (("up", "--compressor", "gzip"), "gzip"),
        (("up", "--compressor", "zstd:20"), "zstd:20"),
        (("up", "--transport", "nbd"), "nbd"),
        (("up", "--priority", "high"), "high"),
        (("up", "--priority", "40000"), "40000"),
        (("up", "../escape"), "../escape"),
        (("up", ""), "name"),
        (("up", "a" * 33), "name"),
        (("down", "a/b"), "a/b"),
        (("status", "--output", "NAME,NONSENSE"), "NONSENSE"),
        (("top", "--interval", "soon"), "soon"),
        (("top", "--interval", "0"), "0.1 to 86400"),
        (("top", "--interval", "nan"), "nan"),
        (("top", "--count", "0"), "--count"),
        (("top", "--count", "-1"), "--count"),
        (("top", "--nonsense"), "--nonsense"),
        (("top", "a/b"), "a/b"),
        (("mount", "none"), "DIR"),
        (("mount", "none", "/tmp", "-o", "nonsense=1"), "nonsense"),
        (("mount", "none", "/tmp", "-o", "size=large"), "large"),
        (("mount", "none", "/tmp", "-o", "size"), "size"),
        (("mount", "none", "/tmp", "-o", "transport=nbd"), "nbd"),
        (("demo", "--memory", "much"), "much"),
    ],
)
def test_usage(arguments: tuple[str, ...], says: str) -> None:
    expect(1, *arguments, says=says)


def test_an_absurd_size_is_usage() -> None:
    expect(1, "up", "--size", "9" * 400, says="size")


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("busy_poll_us=-1", "busy_poll_us"),
        ("compressor=gzip", "gzip"),
        ("nonsense=1", "nonsense"),
        ("compressor", "PARAM=VALUE"),
        ("pool_limit_bytes=1M", "pool_limit_bytes is at least 8388608"),
        ("tier_params=tier=x drain=Y", "tier_params: there is no tier 'x'; there are: none"),
        ("writeback=all", "writeback: there is no tier to write back to"),
    ],
)
def test_a_bad_parameter_is_usage(mounted: TestDevice, assignment: str, says: str) -> None:
    expect(1, "set", mounted.name, assignment, says=says)
    assert mounted.param("compressor") == "lz4"


def test_a_parameter_that_is_not_there(mounted: TestDevice) -> None:
    expect(1, "get", mounted.name, "nonsense", says="compressor")


@pytest.mark.parametrize(
    "arguments", [("down",), ("status",), ("top",), ("get",), ("set", "compressor=lz4")]
)
def test_no_such_device_is_system(arguments: tuple[str, ...]) -> None:
    command, *rest = arguments
    expect(2, command, "no-such-device", *rest, says="no-such-device")


def test_down_without_devices_is_quiet() -> None:
    done = call("down", "--all") if not list(runtime_root().glob("*/config.json")) else None
    assert done is None or (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("target", ["missing", "file"])
def test_no_directory_is_a_mount_failure(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    expect(32, "mount", "none", str(tmp_path / target), says="is not a directory")


@pytest.mark.parametrize("theirs", ["above", "above/d", "link"])
def test_a_users_directory_is_a_mount_failure(tmp_path: Path, theirs: str) -> None:
    """He could have root mount elsewhere, by a rename or by his own link."""
    (tmp_path / "above" / "d").mkdir(parents=True)
    (tmp_path / "link").symlink_to("above/d")
    directory = tmp_path / ("link" if theirs == "link" else "above/d")
    options = ("-o", f"size=64M,name={new_name()}")
    done = call("mount", "none", str(directory), "-f", *options)
    assert done.returncode == 0, done.stderr
    os.chown(tmp_path / theirs, NOBODY, NOBODY, follow_symlinks=False)
    expect(32, "mount", "none", str(directory), *options, says=f"belongs to user {NOBODY}")
    os.chown(tmp_path / theirs, 0, 0, follow_symlinks=False)
    (tmp_path / "above" / "d").chmod(0o1777)
    expect(32, "mount", "none", str(directory), *options, says="can be written to by others")
    assert not mount.is_mounted(str(tmp_path / "above" / "d"))


def test_an_empty_name_is_not_the_current_directory() -> None:
    expect(32, "mount", "none", "", says="'' is not a directory")


def test_mounting_twice_is_a_mount_failure(mounted: TestDevice) -> None:
    options = f"size=64M,name={mounted.name}"
    expect(32, "mount", "none", str(mounted.mountpoint), "-o", options, says="already")
    options = f"size=64M,name={new_name()}"
    expect(32, "mount", "none", str(mounted.mountpoint), "-o", options, says="already")
    assert mounted.stat("stored_pages") == 0


def test_no_room_for_the_runtime_directory() -> None:
    name = new_name()
    blocker = runtime_root() / name
    blocker.touch()
    try:
        with taken_down("no-such-device"):
            expect(32, "up", name, "--no-swapon", says="cannot prepare")
        assert blocker.exists()
    finally:
        blocker.unlink()
        (runtime_root() / f".{name}.lock").unlink(missing_ok=True)


def test_help_and_version_succeed() -> None:
    for arguments in (("--help",), ("--version",), ("up", "--help"), ("set", "--help")):
        done = call(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_an_ordinary_user_is_told(tmp_path: Path) -> None:
    environment = {**os.environ, "FUSESWAP_RUNTIME_DIR": str(tmp_path / "closed")}
    for command in ("up", "demo"):
        done = run([*AS_NOBODY, *fuseswap_command(command)], env=environment)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1
        assert "needs root" in done.stderr
