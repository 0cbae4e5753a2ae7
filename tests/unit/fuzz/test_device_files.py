"""``config.json`` and ``state.json`` in any state: read, or one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import Settings, settings_from, state_from
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from tests.support.fuzzed import bounded, bytes_like, changed_json, json_like, tries

pytestmark = pytest.mark.slow

LEAF = {"kind": "file", "fds": [0], "volatile": False, "extent_count": 9}
TIER = {
    "name": "tier:far",
    "fds": [128, 129],
    "description": {"leaves": [LEAF], "files": [{"path": "/b", "made": True, "size_bytes": 1}]},
}
CONFIG: dict[str, Any] = {
    "size_bytes": 1 << 20,
    "transport": "devfuse",
    "mountpoint": "/mnt/swap",
    "geometry": {"page_count": 256, "segment_count": 18, "frame_count": 17},
    "region_bytes": {"header": 4096, "slots": 4096},
    "parameters": {"compressor": "lz4", "pool_limit_bytes": "8388608"},
    "attachments": [TIER],
}
STATE: dict[str, Any] = {
    "status": "running",
    "supervisor_pid": 7,
    "worker_pid": 8,
    "protection": {"memory_locked": True, "io_flusher": False, "oom_score_adj": -1000},
}


def use(settings: Settings) -> None:
    """What commands ask before they ask anything else."""
    assert settings.pool_limit_bytes >= 0
    assert all(isinstance(name, str) for name in settings.held_files)
    json.dumps(settings.to_json())
    for one in settings.attachments:
        use_attachment(one)


def use_attachment(one: Attachment) -> None:
    assert isinstance(one.may_forget, bool)
    assert isinstance(one.is_encrypted, bool)
    assert len(one.tier_name) <= len(one.name)
    assert all(isinstance(path, str) for _, path, _ in one.backing_files())


def expect(read: Callable[[], object]) -> None:
    """It works, or fails with one line."""
    said = ""
    with bounded():
        try:
            read()
        except HostError as exc:
            said = str(exc)
    assert len(said.splitlines()) <= 1
    assert len(said) < 1000


@tries(600)
@given(content=changed_json(CONFIG) | json_like())
def test_a_configuration_is_right_or_refused(content: Any) -> None:
    expect(lambda: use(settings_from(content, "here")))


@tries(400)
@given(content=changed_json(STATE) | json_like())
def test_a_state_is_right_or_refused(content: Any) -> None:
    expect(lambda: json.dumps(state_from(content, "here").to_json()))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    runtime = Runtime("swap0")
    runtime.create(settings_from(CONFIG, "here"))
    return runtime


def expect_of_files(runtime: Runtime, content: bytes) -> None:
    for path in (runtime.config_path, runtime.state_path):
        path.write_bytes(content)
    expect(lambda: use(runtime.config()))
    expect(runtime.state)
    expect(runtime.mountpoint)


@tries(200)
@given(content=bytes_like(json.dumps(CONFIG).encode(), json.dumps(STATE).encode()))
def test_any_bytes_in_a_file_are_right_or_refused(runtime: Runtime, content: bytes) -> None:
    expect_of_files(runtime, content)


@pytest.mark.parametrize("start", ["[", '{"a":', "9", '{"mountpoint":9', "\xff"])
def test_nor_do_deep_or_long_ones_do_harm(runtime: Runtime, start: str) -> None:
    expect_of_files(runtime, start.encode() * 20_000)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters", {"pool_limit_bytes": "9" * 5000}),
        ("parameters", {"\r\n": None}),
        ("attachments", [{**TIER, "description": {"leaves": [7]}}]),
        ("attachments", [{**TIER, "description": {"leaves": [{**LEAF, "fds": [2]}]}}]),
        ("attachments", [{**TIER, "description": {"files": [{"path": "/b"}]}}]),
        ("attachments", [{**TIER, "description": {"marks": 2}}]),
    ],
)
def test_these_are_refused(key: str, value: object) -> None:
    with pytest.raises(HostError, match=r"^here: .*") as caught:
        use(settings_from({**CONFIG, key: value}, "here"))
    assert len(str(caught.value).splitlines()) == 1
