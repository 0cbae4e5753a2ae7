"""Devices that stand in configuration files: ``up``, ``up --all``, and ``set --save``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.units import MIB
from tests.support.mounted_devices import call, new_name, succeed, taken_down


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSESWAP_CONFIG_ROOT", str(tmp_path))
    path = tmp_path / "etc" / "fuseswap.conf"
    path.parent.mkdir()
    return path


def status(name: str) -> dict[str, object]:
    found = json.loads(succeed("status", name, "--json"))
    assert isinstance(found, dict)
    return found


def parameter(name: str, which: str) -> str:
    return succeed("get", name, which).strip()


def test_a_device_comes_up_as_its_section_says(etc: Path) -> None:
    name = new_name()
    etc.write_text(
        f"[{name}]\nsize = min(ram / 2, 64)\npriority = 3\ncompression-algorithm = zstd(level=2)\n"
        "writeback_batch_size = 5\n"
    )
    with taken_down(name):
        succeed("up", name, "--no-swapon", "--tune", "off")
        assert status(name)["size_bytes"] == 64 * MIB
        assert parameter(name, "compressor") == "zstd:2"
        assert parameter(name, "writeback_batch_size") == "5"
        # Again, with another section: what can be changed is, the rest is said.
        etc.write_text(f"[{name}]\nsize = 64M\ncompressor = lz4\npool-limit = 32M\n")
        succeed("up", name, "--no-swapon", "--tune", "off")
        assert parameter(name, "compressor") == "lz4"
        assert parameter(name, "pool_limit_bytes") == str(32 * MIB)
        etc.write_text(f"[{name}]\nsize = 128M\nstandby = off\n")
        done = call("up", name, "--no-swapon", "--tune", "off")
        assert done.returncode == 1
        assert f"{name} is up with another size, standby, which can't be changed" in done.stderr
        # What no file and no option names stays as it was set.
        succeed("set", name, "compressor=zstd:7", "pool_limit_bytes=20M")
        etc.write_text(f"[{name}]\nwriteback_batch_size = 6\n")
        succeed("up", name, "--no-swapon", "--tune", "off")
        assert parameter(name, "writeback_batch_size") == "6"
        assert parameter(name, "compressor") == "zstd:7"
        assert parameter(name, "pool_limit_bytes") == str(20 * MIB)
        succeed("up", name, "--no-swapon", "--tune", "off", "--pool-limit", "24M")
        assert parameter(name, "pool_limit_bytes") == str(24 * MIB)


def test_a_parameter_that_is_not_valid_leaves_no_device(etc: Path) -> None:
    name = new_name()
    etc.write_text(f"[{name}]\nsize = 64M\nwriteback_batch_size = many\n")
    with taken_down(name):
        done = call("up", name, "--no-swapon")
        assert done.returncode == 1
        assert "'many' is not a number" in done.stderr
        assert not Runtime(name).exists()


def test_all_of_them_come_up_and_what_is_set_is_kept(etc: Path) -> None:
    one, other, left_out = new_name(), new_name(), new_name()
    etc.write_text(
        f"[{one}]\nsize = 64M\npriority = 3\n[{other}]\nsize = 32M\npriority = 3\n"
        f"[{left_out}]\nhost-memory-limit = 1\n"
    )
    with taken_down(one), taken_down(other):
        printed = succeed("up", "--all")
        assert f"{one} is up: 64M" in printed
        assert f"{other} is up: 32M" in printed
        assert f"{left_out} is left out: this machine has more memory" in printed
        assert not Runtime(left_out).exists()
        saved = succeed("set", one, "compressor=zstd:3", "writeback_batch_size=7", "--save")
        assert saved.startswith("saved in ")
        succeed("down", one)
        succeed("up", one)
        assert parameter(one, "compressor") == "zstd:3"
        assert parameter(one, "writeback_batch_size") == "7"
        assert "compressor = zstd:3" in succeed("config", "show", one)
