"""``tier list --remote`` and ``tier gc`` at a real server: who has what, and what goes."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuseswap.cli import main, tier_remote
from fuseswap.cli.tier_remote import format_age
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.tiers import valkey_registry
from fuseswap.tiers.remote_identity import Identity, device_key, new_identity, segment_key
from tests.support.valkey_cluster import Server
from tests.unit.daemon.test_device_files import OLD

ELSEWHERE = Identity("elsewhere-1", "m" * 32, "boot1", "host2", "swap0", "valkey0")
CUT_OFF = Identity("elsewhere-2", "n" * 32, "boot1", "host3", "swap0", "valkey0")
KILLED = new_identity("old", "valkey0")
MINUTE = 60

# coredis leaves the streams of a connection that could not be made to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*MemoryObject:pytest.PytestUnraisableExceptionWarning"
)


class Scene:
    """A machine with two devices, and what they and others have at one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"valkey://127.0.0.1:{server.port}"
        self.ours = self._up("swap0", OLD)
        self.second = self._up("other", OLD | {"name": "other", "mountpoint": "/mnt/other"})
        self.put(self.ours, 3, seen_ago_s=5)
        self.put(self.second, 1, seen_ago_s=7200)
        self.put(ELSEWHERE, 1, seen_ago_s=5)
        self.put(CUT_OFF, 1, seen_ago_s=59 * MINUTE)
        self.put(KILLED, 2, seen_ago_s=4 * MINUTE)

    def _up(self, name: str, settings: dict[str, object]) -> Identity:
        identity = new_identity(name, "valkey0")
        leaf = {
            "kind": "valkey",
            "rest": self.url,
            "identity": identity._asdict(),
            "fds": [0],
            "extent_count": 8,
        }
        runtime = Runtime(name)
        runtime.create(settings_from(settings, "here"))
        runtime.note_attachments([Attachment("tier:valkey0", (140,), {"leaves": [leaf]})])
        return identity

    def put(self, identity: Identity, segments: int, seen_ago_s: float | None) -> None:
        for extent in range(segments):
            self.server.talk("SET", segment_key(identity.id, extent, 1).decode(), "x" * 512)
        if seen_ago_s is not None:
            key = device_key(identity.id).decode()
            fields = [part for pair in identity._asdict().items() for part in pair]
            now = int(self.server.talk("TIME")[0])
            self.server.talk("HSET", key, *fields, "seen", str(now - seen_ago_s))

    def left(self) -> set[str]:
        """Ids of which there is anything."""
        return {key.split(":")[2] for key in self.server.talk("KEYS", "*")}


@pytest.fixture
def scene(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "run"))
    return Scene(server)


def test_who_has_what(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tier", "list", "--remote"]) == 0
    server, headings, *rows = capsys.readouterr().out.splitlines()
    assert server == f"127.0.0.1:{scene.server.port}:"
    assert headings.split() == ["HOST", "DEVICE", "TIER", "SEGMENTS", "SIZE", "SEEN", "STATE"]
    here = scene.ours.host
    found = {" ".join(row.split()[:2]): row.split(maxsplit=6)[2:] for row in rows}
    found = {who: [*cells[:3], *cells[4:]] for who, cells in found.items()}
    assert found == {
        f"{here} swap0": ["valkey0", "3", "1.5K", "this device"],
        f"{here} other": ["valkey0", "1", "512B", "up here"],
        f"{here} old": ["valkey0", "2", "1K", "leftover"],
        "host2 swap0": ["valkey0", "1", "512B", "alive"],
        "host3 swap0": ["valkey0", "1", "512B", "silent"],
    }


def test_as_json_from_a_machine_without_a_device(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", "/nowhere/fuseswap")
    assert main(["tier", "list", "--json", "--remote", scene.url]) == 0
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert len(found) == 5
    one = found[ELSEWHERE.id]
    assert (one["host"], one["segments"], one["size_bytes"]) == ("host2", 1, 512)
    assert one["state"] == "alive"
    assert 5 <= one["seen_ago_s"] < 60


def test_without_a_yes_nothing_goes(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    before = scene.left()
    assert main(["tier", "gc"]) == 0
    said = capsys.readouterr()
    (row,) = said.out.splitlines()[2:]
    assert row.split()[1] == "old"
    assert said.err == "nothing was deleted; to delete these: --yes\n"
    assert scene.left() == before


@pytest.mark.parametrize(("older", "more"), [((), set()), (("--older", "30"), {CUT_OFF.id})])
def test_with_a_yes_what_can_not_live_goes(
    scene: Scene, capsys: pytest.CaptureFixture[str], older: tuple[str, ...], more: set[str]
) -> None:
    before = scene.left()
    assert main(["tier", "gc", "--yes", *older]) == 0
    assert before - scene.left() == {KILLED.id} | more
    assert f"deleted {2 + len(more)} segments of {1 + len(more)} tiers" in capsys.readouterr().out
    assert main(["tier", "gc", "--yes", *older]) == 0
    assert "no leftovers" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "goes"), [("n", False), ("", False), ("yes", True)])
def test_on_a_terminal_it_asks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, word: str, goes: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: word)
    assert main(["tier", "gc"]) == 0
    assert (KILLED.id not in scene.left()) is goes


def test_only_what_was_shown_goes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While somebody thinks one device comes again, and another becomes a leftover."""
    late = new_identity("late", "valkey0")

    def think() -> bool:
        scene.put(KILLED, 2, seen_ago_s=1)
        scene.put(late, 1, seen_ago_s=4 * MINUTE)
        return True

    monkeypatch.setattr(tier_remote, "_said_yes", think)
    before = scene.left()
    assert main(["tier", "gc"]) == 0
    assert scene.left() == before | {late.id}
    assert "deleted 0 segments of 0 tiers, 0B; 1 live after all" in capsys.readouterr().out


def test_segments_of_nobody_go_after_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = new_identity("nobody", "valkey0")
    scene.put(nobody, 2, seen_ago_s=None)
    monkeypatch.setattr(valkey_registry.collect, "__defaults__", (60.0, 0.1, None))
    assert main(["tier", "gc", "--yes"]) == 0
    said = capsys.readouterr()
    assert "never" in said.out
    assert "waiting for 180 s" in said.err
    assert scene.left().isdisjoint({nobody.id, KILLED.id})


def test_a_device_that_can_not_be_read_is_not_taken_for_a_dead_one(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    (Runtime("other").directory / "config.json").write_text("{")
    before = scene.left()
    assert main(["tier", "gc", "--yes"]) == 2
    assert "config.json" in capsys.readouterr().err
    assert scene.left() == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["list", "--remote", "-d", "none"], 2, "there is no device 'none'"),
        (["list", "--remote", "http://a"], 1, "is not valkey://HOST:PORT"),
        (["gc", "--older", "2"], 1, "'2' is not valid for --older"),
        (["gc", "--older", "x"], 1, "'x' is not valid for --older"),
        (["gc", "valkey://127.0.0.1:1", "--yes"], 2, "127.0.0.1:1: "),
    ],
)
def test_what_is_refused(
    scene: Scene,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    before = scene.left()
    assert main(["tier", *arguments]) == code
    gc.collect()  # what coredis leaves, while its warnings are ignored
    printed = capsys.readouterr().err
    assert says in printed
    assert len(printed.splitlines()) == 1
    assert scene.left() == before


def test_a_device_without_a_remote_tier(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    Runtime("swap0").note_attachments([])
    assert main(["tier", "list", "--remote"]) == 2
    assert "no remote tier; give an address: valkey://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (119, "119s"),
        (121, "2min"),
        (7300, "2h"),
        (200000, "2d"),
        (float("inf"), "never"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
