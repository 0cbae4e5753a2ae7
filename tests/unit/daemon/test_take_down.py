"""`down` and who has swapfile or loop device open: for a moment, or to stay."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuseswap.daemon import device_info, take_down
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux import loop, mount, swap_area
from fuseswap.tiers.backing_file import NotClaimed


class Host:
    """A device without swap, on a clock that sleep moves; ``users`` by seconds since `down`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(root))
        self.runtime = Runtime("some")
        self.runtime.directory.mkdir(0o700)
        self.runtime.config_path.write_text('{"mountpoint": "/nowhere"}')
        self.now_s = 0.0
        self.file_is_open_until_s = self.device_is_open_until_s = 0.0
        self.done: list[str] = []
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep)
        monkeypatch.setattr(take_down, "time", clock)
        monkeypatch.setattr(take_down, "loop_of", lambda runtime: "/dev/loop7")
        monkeypatch.setattr(swap_area, "area_of", lambda device: None)
        monkeypatch.setattr(mount, "is_mounted", lambda mountpoint: True)
        monkeypatch.setattr(mount, "users_of", self.users_of)
        monkeypatch.setattr(mount, "openers_of", self.openers_of)
        monkeypatch.setattr(loop, "detach", self.detach)
        monkeypatch.setattr(take_down, "_unmount", lambda *device: self.done.append("unmounted"))

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def users_of(self, swapfile: str, mountpoint: str) -> list[str]:
        assert swapfile == "/nowhere/swapfile"
        return ["cp (7)"] if self.now_s < self.file_is_open_until_s else []

    def openers_of(self, device: str) -> list[str]:
        assert device == "/dev/loop7"
        return ["blkid (8)"] if self.now_s < self.device_is_open_until_s else []

    def detach(self, device: str) -> None:
        self.done.append("detached")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


def test_who_looks_for_a_moment_is_waited_for(host: Host) -> None:
    host.device_is_open_until_s = 0.4
    host.file_is_open_until_s = 0.8
    take_down.down(host.runtime)
    assert host.done == ["detached", "unmounted"]
    assert 0.8 <= host.now_s < 1
    assert not host.runtime.directory.exists()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("file_is_open_until_s", "/nowhere/swapfile is in use by cp (7); some is up"),
        ("device_is_open_until_s", "/dev/loop7 is in use by blkid (8); some is up"),
    ],
)
def test_who_stays_is_named_and_nothing_is_changed(host: Host, what: str, says: str) -> None:
    setattr(host, what, 1e9)
    with pytest.raises(HostError) as caught:
        take_down.down(host.runtime)
    assert str(caught.value) == says
    assert host.done == []
    assert host.runtime.exists()
    assert 1 <= host.now_s < 2


@pytest.fixture
def told_to_end() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_once_the_swap_is_off_it_goes_to_its_end(
    host: Host, monkeypatch: pytest.MonkeyPatch, told_to_end: None
) -> None:
    monkeypatch.setattr(loop, "detach", lambda device: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        take_down.down(host.runtime)
    assert host.done == ["unmounted"]
    assert not host.runtime.directory.exists()


def test_damaged_files_name_the_default_mountpoint(host: Host) -> None:
    host.runtime.config_path.write_text("{")
    default = str(host.runtime.default_mountpoint)
    assert device_info.mountpoint_of(host.runtime) == default
    host.runtime.remove()
    with pytest.raises(HostError, match="there is no device"):
        device_info.mountpoint_of(host.runtime)


def test_or_the_one_that_a_process_of_the_device_serves(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.runtime.config_path.unlink()
    monkeypatch.setattr(device_info, "all_of", lambda runtime: [7])
    monkeypatch.setattr(mount, "connections_of", lambda pids: {"41"} if pids == [7] else set())
    monkeypatch.setattr(mount, "mountpoint_of", lambda found: "/mnt/x" if found == {"41"} else None)
    assert device_info.mountpoint_of(host.runtime) == "/mnt/x"


def test_a_file_that_is_still_in_use_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its disk does not answer, so the worker that has it can't end."""
    for name in ("used", "anothers"):
        (tmp_path / name).touch()
    paths = [str(tmp_path / name) for name in ("used", "gone", "anothers")]
    files = [("", path, True) for path in paths]
    one = SimpleNamespace(is_encrypted=True, backing_files=lambda: files)
    settings = SimpleNamespace(attachments=[one], backing=None, mountpoint="/nowhere")
    monkeypatch.setattr(Runtime, "config", lambda runtime: settings)

    def release(path: str, name: str, **_: bool) -> None:
        raise (NotClaimed if path == paths[2] else HostError)(f"{path} is in use")

    monkeypatch.setattr(take_down, "release_backing", release)
    assert take_down.down(host.runtime) == [f"{paths[0]} stays as it is: {paths[0]} is in use"]
    assert host.now_s < 5
