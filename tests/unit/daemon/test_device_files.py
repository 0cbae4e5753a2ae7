"""``config.json`` and ``state.json``: of this version, of an older one, and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fuseswap.daemon.device_files import (
    DeviceState,
    GeometryNumbers,
    Settings,
    Status,
    settings_from,
    state_from,
)
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux.protect import Protection

# As the first version wrote it: all that has no default.
OLD: dict[str, Any] = {
    "name": "swap0",
    "size_bytes": 1 << 20,
    "pool_limit_bytes": 1 << 23,
    "compressor": "lz4",
    "transport": "devfuse",
    "mountpoint": "/mnt/swap",
    "priority": 100,
    "geometry": {"page_count": 256, "segment_count": 18, "frame_count": 17},
    "region_bytes": {"header": 4096, "slots": 4096},
    "parameters": {"compressor": "lz4", "pool_limit_bytes": "8388608"},
}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    runtime = Runtime("swap0")
    runtime.create(settings_from(OLD, "here"))
    return runtime


def test_an_old_configuration_has_defaults_for_what_came_later() -> None:
    assert settings_from(OLD, "here") == Settings(
        mountpoint="/mnt/swap",
        transport="devfuse",
        size_bytes=1 << 20,
        geometry=GeometryNumbers(256, 18, 17),
        region_bytes={"header": 4096, "slots": 4096},
        parameters={"compressor": "lz4", "pool_limit_bytes": "8388608"},
        backing=None,
        backing_bytes=0,
        backing_layout="packed",
        backing_encrypt=False,  # of an older version
        resend="auto",
        watchdog_s=0,
        standby=True,
        memory=None,
    )


def test_what_is_written_is_read_again(runtime: Runtime) -> None:
    settings = settings_from({**OLD, "backing": "/b", "memory": "sysv"}, "here")
    runtime.create(settings)
    assert runtime.config() == settings
    assert settings.held_files == ["header", "slots", "fuse", "backing"]
    state = DeviceState(
        status=Status.DEGRADED,
        reason="because",
        supervisor_pid=7,
        worker_pid=8,
        standby_pid=9,
        restarts=2,
        memory="tmpfs",
        made_backing=True,
        former_of_backing="swap1",
        protection=Protection(True, False, -1000),
        supervisor_protection=Protection(True, True, 0),
    )
    runtime.write_state(state)
    assert runtime.state() == state


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("mountpoint", None, "mountpoint is None, not a text"),
        ("transport", "nfs", "transport is 'nfs', not one of devfuse, pyfuse3"),
        ("size_bytes", "1G", "size_bytes is '1G', not a number"),
        ("size_bytes", -1, "size_bytes is -1, not a number"),
        ("size_bytes", True, "size_bytes is True, not a number"),
        ("geometry", [], "geometry is not a JSON object"),
        ("geometry", {"page_count": 1}, "geometry: segment_count is None, not a number"),
        ("region_bytes", {"header": "4K"}, "region_bytes: header is '4K', not a number"),
        ("parameters", {"compressor": 3}, "parameters: compressor is 3, not a text"),
        ("parameters", {"compressor": "lz4"}, "not with a pool_limit_bytes"),
        ("backing", 3, "backing is 3, not a text"),
        ("backing_layout", "sideways", "not one of packed, in-place"),
        ("resend", "on", "not one of auto, off"),
        ("watchdog_s", 1.5, "watchdog_s is 1.5, not a number"),
        ("standby", "on", "standby is 'on', not true or false"),
        ("mountpoint", 9 * ["two\nlines"], "mountpoint is"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_path(
    runtime: Runtime, key: str, value: object, says: str
) -> None:
    runtime.config_path.write_text(json.dumps({**OLD, key: value}))
    with pytest.raises(HostError, match=says) as caught:
        runtime.config()
    assert str(caught.value).startswith(f"{runtime.config_path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["mountpoint", "transport", "size_bytes", "parameters"])
def test_what_was_always_there_is_needed(key: str) -> None:
    with pytest.raises(HostError, match=key):
        settings_from({name: value for name, value in OLD.items() if name != key}, "here")


def test_the_mountpoint_is_found_whatever_else_is_wrong(runtime: Runtime) -> None:
    """So that the device can be taken down."""
    runtime.config_path.write_text(json.dumps({"mountpoint": "/mnt/swap", "transport": 3}))
    assert runtime.mountpoint() == "/mnt/swap"


def test_no_json_is_not_the_same_as_no_device(runtime: Runtime) -> None:
    runtime.config_path.write_text("{")
    with pytest.raises(HostError, match=r"config\.json is not JSON: "):
        runtime.config()
    runtime.remove()
    with pytest.raises(HostError, match="there is no device 'swap0'"):
        runtime.config()


def test_before_anything_was_noted(runtime: Runtime) -> None:
    assert runtime.state() == DeviceState(status=Status.STARTING)


def test_an_old_state_has_no_worker_where_it_says_0() -> None:
    old = {"status": "degraded", "worker_pid": 0, "restarts": 9, "supervisor_protection": {}}
    assert state_from(old, "here") == DeviceState(status=Status.DEGRADED, restarts=9)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "here is not a JSON object"),
        ({"status": "well"}, "here: status is 'well', not one of starting, running, degraded"),
        ({"worker_pid": "x"}, "here: worker_pid is 'x', not a number"),
        ({"protection": {"memory_locked": 1}}, "here: protection: memory_locked is 1, not true"),
    ],
)
def test_a_wrong_state_is_an_error(content: object, says: str) -> None:
    with pytest.raises(HostError) as caught:
        state_from(content, "here")
    assert str(caught.value).startswith(says)
