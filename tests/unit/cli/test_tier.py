"""``fuseswap tier``: what it shows, what it asks for, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fuseswap.cli import main, tier, tier_numbers
from fuseswap.daemon import live_tiers
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.tiers.tier_spec import TierSpec
from fuseswap.units import MIB
from tests.unit.daemon.test_device_files import OLD

POLICIES = """\
tier=file0 priority=5 limit=none drain=N state=active
tier=slow priority=-1 limit=2097152 drain=Y state=draining
"""
METRICS = """\
fuseswap_tier_extents{tier="file0"} 40
fuseswap_tier_segments{tier="file0"} 7
fuseswap_tier_written_bytes_total{tier="file0"} 8388608
fuseswap_tier_failed_writes_total{tier="file0"} 2
fuseswap_tier_extents{tier="slow"} 4
fuseswap_tier_segments{tier="slow"} 1
# EOF
"""


class Files:
    """The files of a device, as commands read and write them."""

    def __init__(self) -> None:
        self.texts = {"tier_params": POLICIES, "metrics": METRICS}
        self.written: list[str] = []
        self.then: Callable[[], None] = lambda: None

    def read(self, path: Path) -> str:
        self.then()
        return self.texts[path.name]

    def write(self, path: Path, text: str) -> None:
        assert path.name == "tier_params"
        self.written.append(text)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(tier, "LOOK_EVERY_S", 0.0)
    files = Files()
    monkeypatch.setattr(tier_numbers, "read_file", files.read)
    monkeypatch.setattr(tier, "set_value", files.write)
    Runtime("swap0").create(settings_from(OLD, "here"))
    return files


@pytest.mark.usefixtures("files")
def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tier", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "TIER  STATE    PRIORITY SIZE LIMIT USED SEGMENTS READ WRITTEN ERRORS",
        "file0 active   5        40M  none  7M   7        0B   8M      2",
        "slow  draining -1       4M   2M    1M   1        0B   0B      0",
    ]


@pytest.mark.usefixtures("files")
def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tier", "list", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["written_bytes"] == 8 * MIB
    assert (second["state"], second["limit_bytes"]) == ("draining", 2 * MIB)


def test_a_tier_that_the_worker_could_not_make(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = Attachment("tier:lost", (140,), {})
    Runtime("swap0").note_attachments([lost])
    assert main(["tier", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "lost  missing  -        0B   none  0B   0        0B   0B      0"
    )


def test_setting(files: Files) -> None:
    assert main(["tier", "set", "-d", "swap0", "slow", "priority=7", "drain=N"]) == 0
    assert files.written == ["tier=slow priority=7 drain=N"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["set", "slow", "prio=7"], 1, "'prio=7' is no setting of a tier; there are: priority="),
        (["set", "slow", "priority"], 1, "'priority' is no setting"),
        (["set", "fast", "priority=7"], 2, "swap0 has no tier 'fast'; it has: file0, slow"),
        (["drain", "fast"], 2, "swap0 has no tier 'fast'"),
        (["remove", "file0"], 2, "'file0' holds 7 segments; first: fuseswap tier drain -d swap0 f"),
        (["add", "file:/a,name=x y"], 1, "'x y' is no name of a tier"),
        (["add", "file:/a"], 2, "swap0 has no supervisor; try: fuseswap up swap0"),
        (["list", "-d", "other"], 2, "there is no device 'other'"),
    ],
)
def test_what_is_refused(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    assert main(["tier", *arguments]) == code
    printed = capsys.readouterr().err
    assert says in printed
    assert len(printed.splitlines()) == 1
    assert files.written == [], "nothing was changed"


def test_draining_until_it_is_empty(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(live_tiers, "remove", lambda runtime, name: removed.append(name))
    left = iter("1110")

    def leave() -> None:
        if files.written:
            segments = next(left, "0")
            files.texts["metrics"] = METRICS.replace(
                'segments{tier="slow"} 1', f'segments{{tier="slow"}} {segments}'
            )

    files.then = leave
    assert main(["tier", "remove", "--drain", "slow"]) == 0
    assert files.written == ["tier=slow drain=Y"]
    assert removed == ["slow"]
    assert "1 of 1 segments" in capsys.readouterr().err


def test_one_that_does_not_get_empty(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tier, "STUCK_AFTER_S", 0.0)
    assert main(["tier", "drain", "slow"]) == 2
    assert "fuseswap tier set -d swap0 slow drain=N" in capsys.readouterr().err


class Supervised:
    """A device whose worker makes something of a tier at once, after a restart, or never."""

    def __init__(self, used: str) -> None:
        self.used = iter(used)
        self.done: list[str] = []

    def add(self, runtime: Runtime, spec: TierSpec) -> Attachment:
        self.done.append(f"add {spec.name}")
        return Attachment(f"tier:{spec.name}", (140,), {"encrypt": True})

    def is_used(self, runtime: Runtime, name: str) -> bool:
        return next(self.used) == "Y"

    def restart(self, runtime: Runtime) -> str:
        self.done.append("restart")
        return "worker 1 replaced by 2, pause 3 ms"

    def refuse(self, runtime: Runtime) -> str:
        raise HostError("swap0 was not restarted: no memory")

    def remove(self, runtime: Runtime, name: str) -> None:
        self.done.append(f"remove {name}")

    def set_policy(self, runtime: Runtime, spec: TierSpec) -> None:
        self.done.append(f"priority {spec.priority}")


@pytest.fixture
def supervised(files: Files, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Supervised]:
    def make(used: str) -> Supervised:
        made = Supervised(used)
        for name in ("add", "is_used", "remove", "set_policy"):
            monkeypatch.setattr(live_tiers, name, getattr(made, name))
        monkeypatch.setattr(tier, "restart", made.restart)
        return made

    return make


def test_a_worker_that_can_take_it_goes_on(supervised: Callable[[str], Supervised]) -> None:
    scene = supervised("Y")
    assert main(["tier", "add", "file:/a,priority=4"]) == 0
    assert scene.done == ["add file0", "priority 4"]


def test_a_worker_that_can_not_encrypt_is_replaced_before_a_policy_is_set(
    supervised: Callable[[str], Supervised], capsys: pytest.CaptureFixture[str]
) -> None:
    scene = supervised("NY")
    assert main(["tier", "add", "file:/a,priority=4"]) == 0
    assert scene.done == ["add file0", "restart", "priority 4"]
    assert "worker 1 replaced by 2" in capsys.readouterr().err


def test_a_tier_that_no_worker_takes_goes_again(
    supervised: Callable[[str], Supervised],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = supervised("NNNN")
    assert main(["tier", "add", "file:/a"]) == 2
    assert scene.done == ["add file0", "restart", "remove file0"]
    assert "tier 'file0' is not added: see the log" in capsys.readouterr().err
    monkeypatch.setattr(tier, "restart", scene.refuse)
    assert main(["tier", "add", "file:/a"]) == 2
    assert scene.done[3:] == ["add file0", "remove file0"]
    assert "not added: swap0 was not restarted: no memory" in capsys.readouterr().err


def test_a_transport_that_can_not_hand_over(
    supervised: Callable[[str], Supervised], capsys: pytest.CaptureFixture[str]
) -> None:
    scene = supervised("N")
    Runtime("swap0").create(settings_from(OLD | {"transport": "pyfuse3"}, "here"))
    assert main(["tier", "add", "file:/a"]) == 2
    assert scene.done == ["add file0", "remove file0"]
    assert "with pyfuse3 no other can take over; encrypt=no" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "is_used"), [("slow", True), ("slo", False), ("file0", True)])
def test_whether_the_worker_uses_a_tier(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str, is_used: bool
) -> None:
    monkeypatch.setattr(live_tiers, "read_file", lambda path, timeout_s: files.read(path))
    monkeypatch.setattr(Runtime, "mountpoint", lambda runtime: "/here")
    assert live_tiers.is_used(Runtime("swap0"), name) is is_used
