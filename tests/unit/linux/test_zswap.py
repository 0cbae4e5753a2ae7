"""zswap in front: what is set, in which order, and what comes back whatever ends half-way."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import zswap
from fuseswap.linux.kept_settings import KeptSettings
from fuseswap.linux.zswap import Zswap
from fuseswap.linux.zswap_use import ZswapUse, zswap_counters, zswap_use

BEFORE = {
    "compressor": "lzo",
    "max_pool_percent": "20",
    "accept_threshold_percent": "80",
    "shrinker_enabled": "N",
    "enabled": "N",
}
Write = tuple[str, str]


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Parameters as zswap's, without its checks."""
    directory = tmp_path / "parameters"
    directory.mkdir()
    for name, value in BEFORE.items():
        (directory / name).write_text(f"{value}\n")
    return directory


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """Each write, in order."""
    seen: list[Write] = []
    write = KeptSettings._write

    def noted(self: KeptSettings[str], name: str, value: str) -> bool:
        seen.append((name, value))
        return write(self, name, value)

    monkeypatch.setattr(KeptSettings, "_write", noted)
    return seen


def left(root: Path) -> list[str]:
    return [path.name for path in root.iterdir()]


def test_enabled_is_set_last_and_put_back_first(
    kernel: Path, tmp_path: Path, writes: list[Write]
) -> None:
    front = Zswap(tmp_path / "run", kernel)
    front.put_in_front("a", 5)
    wanted = zswap.recommended(5)
    assert front.read() == wanted == front.set_by_us()
    assert writes == list(wanted.items())
    assert front.is_on
    writes.clear()
    front.restore(set())
    assert front.read() == BEFORE
    assert writes == list(reversed(BEFORE.items()))
    assert left(tmp_path / "run") == []


def test_the_last_of_two_devices_puts_back(kernel: Path, tmp_path: Path) -> None:
    """Each command is a process of its own, so each has an object of its own."""
    Zswap(tmp_path / "run", kernel).put_in_front("a", 5)
    Zswap(tmp_path / "run", kernel).put_in_front("b", 10)
    front = Zswap(tmp_path / "run", kernel)
    assert front.read()["max_pool_percent"] == "10", "the last one says"
    front.restore({"b"})
    assert front.is_on
    front.restore(set())
    assert front.read() == BEFORE
    assert left(tmp_path / "run") == []


def test_a_zswap_that_was_on_stays_on(kernel: Path, tmp_path: Path) -> None:
    (kernel / "enabled").write_text("Y\n")
    front = Zswap(tmp_path / "run", kernel)
    front.put_in_front("a", 5)
    assert "enabled" not in front.set_by_us()
    front.restore(set())
    assert front.read() == {**BEFORE, "enabled": "Y"}


def test_what_another_program_changed_stays(kernel: Path, tmp_path: Path) -> None:
    front = Zswap(tmp_path / "run", kernel)
    front.put_in_front("a", 5)
    (kernel / "max_pool_percent").write_text("30\n")
    front.restore(set())
    assert front.read() == {**BEFORE, "max_pool_percent": "30"}


@pytest.mark.parametrize("after", [False, True], ids=("before", "after"))
@pytest.mark.parametrize("name", zswap.NAMES)
def test_a_command_that_dies_at_any_value_leaves_a_way_back(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: bool
) -> None:
    """`up`, and then `down`, each killed right before or after the write of ``name``."""
    root = tmp_path / "run"
    die_at(monkeypatch, name, after=after)
    with pytest.raises(KeyboardInterrupt):
        Zswap(root, kernel).put_in_front("a", 5)
    monkeypatch.undo()
    assert "a" in (root / ".zswap.json").read_text()
    Zswap(root, kernel).put_in_front("a", 5)
    assert Zswap(root, kernel).read() == zswap.recommended(5)

    die_at(monkeypatch, name, after=after)
    with pytest.raises(KeyboardInterrupt):
        Zswap(root, kernel).restore(set())
    monkeypatch.undo()
    Zswap(root, kernel).restore(set())
    assert Zswap(root, kernel).read() == BEFORE
    assert left(root) == []


@pytest.mark.parametrize("name", zswap.NAMES)
def test_a_device_that_never_came_up_is_taken_off(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    die_at(monkeypatch, name, after=True)
    with pytest.raises(KeyboardInterrupt):
        Zswap(tmp_path / "run", kernel).put_in_front("a", 5)
    monkeypatch.undo()
    Zswap(tmp_path / "run", kernel).restore({"another"})
    assert Zswap(tmp_path / "run", kernel).read() == BEFORE


def die_at(monkeypatch: pytest.MonkeyPatch, name: str, *, after: bool) -> None:
    """End with an exception that no code here catches, as a kill does, at the write of ``name``."""
    write = KeptSettings._write

    def dying(self: KeptSettings[str], at: str, value: str) -> bool:
        if at == name and not after:
            raise KeyboardInterrupt
        done = write(self, at, value)
        if at == name:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(KeptSettings, "_write", dying)


def test_a_codec_the_kernel_lacks_is_no_error(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "compressor")
    front = Zswap(tmp_path / "run", kernel)
    front.put_in_front("a", 5)
    assert front.read() == {**zswap.recommended(5), "compressor": "lzo"}
    front.restore(set())
    assert front.read() == BEFORE


def test_a_zswap_that_will_not_start_is_one(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "enabled")
    front = Zswap(tmp_path / "run", kernel)
    with pytest.raises(HostError, match="zswap refuses enabled=Y"):
        front.put_in_front("a", 5)
    front.restore(set())
    assert front.read() == BEFORE


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write = KeptSettings._write
    monkeypatch.setattr(
        KeptSettings, "_write", lambda self, at, value: at != name and write(self, at, value)
    )


def test_an_older_kernel_has_no_shrinker(kernel: Path, tmp_path: Path) -> None:
    (kernel / "shrinker_enabled").unlink()
    front = Zswap(tmp_path / "run", kernel)
    front.put_in_front("a", 5)
    assert "shrinker_enabled" not in front.set_by_us()
    assert front.is_on
    assert not (kernel / "shrinker_enabled").exists()


def test_no_zswap_is_one_line(tmp_path: Path) -> None:
    front = Zswap(tmp_path / "run", tmp_path / "nowhere")
    with pytest.raises(HostError, match=r"no zswap") as refused:
        front.require()
    assert "\n" not in str(refused.value)
    assert (front.read(), front.is_on) == ({}, False)


def test_a_read_only_sysfs_is_one_line(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Zswap(tmp_path / "run", kernel)
    front.require()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(HostError, match=r"can't write .*compressor") as refused:
        front.require()
    assert "\n" not in str(refused.value)


def test_use(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(
        "MemTotal:  1000 kB\nZswap:     20 kB\nZswapped:   52 kB\nHugePages_Total: 0\n"
    )
    (tmp_path / "vmstat").write_text("pswpin 9\nzswpin 3\nzswpout 16\nzswpwb 2\nswpin_zero 1\n")
    assert zswap_use(tmp_path / "meminfo", tmp_path / "vmstat") == ZswapUse(
        20 << 10, 52 << 10, 3, 16, 2
    )
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\n")
    (tmp_path / "vmstat").write_text("pswpin 9\n")
    assert zswap_use(tmp_path / "meminfo", tmp_path / "vmstat") == ZswapUse()


def test_counters_are_those_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "pool_limit_hit").write_text("7\n")
    (tmp_path / "else").write_text("text\n")
    assert zswap_counters(tmp_path) == {"pool_limit_hit": 7}
    assert zswap_counters(tmp_path / "nowhere") == {}
