"""Configuration files: which counts, what a section means, and what is wrong with one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fuseswap.cli import config_files, configured, main
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.swap_area import memory_bytes
from fuseswap.units import MIB

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setenv("FUSESWAP_CONFIG_ROOT", str(tmp_path))

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def texts(name: str) -> dict[str, str]:
    return {key: value.text for key, value in config_files.sections()[name].items()}


def words(name: str = "swap0") -> list[str]:
    found = configured.section_of(name)
    assert found is not None
    return found.words


def test_the_last_file_counts_and_a_name_hides_the_same_in_lower_places(write: Write) -> None:
    write("usr/lib/fuseswap.conf", "[swap0]\nsize = 1G\n")
    main_file = write("etc/fuseswap.conf", "[swap0]\nsize = 2G\npriority = 5\n[other]\n")
    write("usr/lib/fuseswap.conf.d/10-a.conf", "[swap0]\nsize = 3G\n")
    last = write("run/fuseswap.conf.d/20-b.conf", "[swap0]\npriority = 7\n")
    write("usr/lib/fuseswap.conf.d/20-b.conf", "[swap0]\npriority = 8\n")
    write("usr/lib/fuseswap.conf.d/30-c.conf", "[swap0]\nsize = 9G\n")
    write("etc/fuseswap.conf.d/30-c.conf", "")
    write("etc/fuseswap.conf.d/notes.txt", "no configuration")
    assert texts("swap0") == {"size": "3G", "priority": "7"}
    assert config_files.sections()["swap0"]["priority"].path == last
    assert texts("other") == {}
    assert config_files.files()[0] == main_file


def test_no_file_is_no_device(write: Write) -> None:
    assert config_files.sections() == {}
    assert configured.section_of("swap0") is None
    assert configured.with_section(["up", "swap0"], "swap0") == ["up", "swap0"]


def test_our_keys_are_options_and_parameters(write: Write) -> None:
    write(
        "etc/fuseswap.conf",
        "[swap0]\nsize = min(ram / 2, 512)\nPool_Limit = 25%\nisolate = yes\n"
        "tier = file:/a,priority=1\n    file:/b\nwriteback_age_seconds = 60\nbacking =\n",
    )
    assert words() == [
        "--size", str(512 * MIB), "--pool-limit", "25%", "--isolate",
        "--tier", "file:/a,priority=1", "--tier", "file:/b",
    ]  # fmt: skip
    found = configured.section_of("swap0")
    assert found is not None
    ((parameter, text),) = found.parameters
    assert (parameter.name, text) == ("writeback_age_seconds", "60")


@pytest.mark.parametrize(
    ("text", "percent"), [("yes", "5"), ("1", "1"), ("20", "20"), ("no", None), ("0", None)]
)
def test_below_zswap_is_a_percentage_or_yes(write: Write, text: str, percent: str | None) -> None:
    """One word of its own: the name of the device comes next on the command line."""
    write("etc/fuseswap.conf", f"[swap0]\nbelow-zswap = {text}\n")
    assert words() == ([f"--below-zswap={percent}"] if percent else [])


def test_a_file_of_zram_generator_is_understood(write: Write) -> None:
    write(
        "etc/fuseswap.conf",
        "[swap0]\nzram-size = min(ram, 1024)\nzram-resident-limit = 256\n"
        "compression-algorithm = zstd(level=3) lz4(type=idle)\nswap-priority = 50\n"
        "writeback-device = /dev/sdz9\nfs-type = swap\n"
        "options = discard\nhost-memory-limit = none\n",
    )
    assert words() == [
        "--size", str(1024 * MIB), "--pool-limit", str(256 * MIB), "--compressor", "zstd:3",
        "--priority", "50", "--backing", "/dev/sdz9",
    ]  # fmt: skip


def test_no_limit_is_the_default_one(write: Write) -> None:
    write("etc/fuseswap.conf", "[swap0]\nzram-resident-limit = 0\n")
    assert words() == []


def test_a_machine_with_more_memory_than_the_limit_has_no_device(write: Write) -> None:
    mib = memory_bytes() // MIB
    write(
        "etc/fuseswap.conf",
        f"[swap0]\nhost-memory-limit = {mib - 1}\n[b]\nhost-memory-limit = {mib + 1}",
    )
    skipped, kept = configured.section_of("swap0"), configured.section_of("b")
    assert skipped is not None
    assert "more memory" in skipped.skipped
    assert kept is not None
    assert not kept.skipped


def test_what_stands_on_the_command_line_counts(write: Write) -> None:
    write("etc/fuseswap.conf", "[swap0]\nsize = 1G\n")
    assert configured.with_section(["up", "--size", "3G", "swap0"], "swap0") == [
        "up", "--size", "1G", "--size", "3G", "swap0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("size = 1G\n", "line 1 stands before any [section]"),
        ("[swap0]\nsize\n", "line 2 is not KEY=VALUE"),
        ("[swap0]\nsize = 1G\nsize = 2G\n", "line 3: 'size' again"),
        ("[swap0]\n[swap0]\n", "line 2: [swap0] again"),
        ("[swap0]\nsise = 1G\n", "[swap0] sise: there is no such key"),
        ("[swap0]\nsize = large\n", "[swap0] size: 'large' is not a size"),
        ("[swap0]\nisolate = maybe\n", "'maybe' is neither yes nor no"),
        ("[swap0]\nbelow-zswap = some\n", "'some' is neither a percentage nor yes or no"),
        ("[swap0]\nfs-type = ext4\n", "fs-type has 'ext4'"),
        ("[swap0]\noptions = discard,nofail\n", "options has 'nofail'"),
        ("[swap0]\nhost-memory-limit = -1\n", "neither a number of MiB nor none"),
        ("[swap0]\ncompression-algorithm = (x)\n", "is not an algorithm"),
    ],
)
def test_a_fault_is_named_with_its_file(
    write: Write, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    path = write("etc/fuseswap.conf", text)
    with pytest.raises(InvalidArgument) as caught:
        configured.section_of("swap0")
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert main(["config", "check"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_names_and_options_are_checked_too(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("etc/fuseswap.conf", "[no/name]\n")
    assert main(["config", "check"]) == 1
    write("etc/fuseswap.conf", "[swap0]\ntransport = pigeon\n")
    with pytest.raises(SystemExit):
        main(["config", "check"])
    assert "pigeon" in capsys.readouterr().err


def test_what_is_shown_can_be_read_again(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("etc/fuseswap.conf", "[swap0]\nsize = 1G\n[b]\npriority = 3\n")
    before = {name: texts(name) for name in ("swap0", "b")}
    assert main(["config", "check"]) == 0
    assert "2 devices in " in capsys.readouterr().out
    assert main(["config", "show"]) == 0
    write("etc/fuseswap.conf", capsys.readouterr().out)
    assert {name: texts(name) for name in ("swap0", "b")} == before
    assert main(["config", "show", "c"]) == 1


def test_the_default_file_changes_nothing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "default"]) == 0
    write("etc/fuseswap.conf", capsys.readouterr().out)
    assert config_files.sections() == {"swap0": {}}


def test_what_is_saved_holds_and_keeps_what_was(write: Write) -> None:
    write("etc/fuseswap.conf", "[swap0]\nsize = 1G\ncompressor = lz4\n")
    config_files.save("swap0", {"compressor": "zstd:3"})
    path = config_files.save("swap0", {"writeback_age_seconds": "60"})
    assert texts("swap0") == {
        "size": "1G", "compressor": "zstd:3", "writeback-age-seconds": "60",
    }  # fmt: skip
    assert path.name == "90-swap0.conf"
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mask", [0, 0o777])
def test_what_is_saved_has_modes_of_its_own(write: Write, mask: int) -> None:
    """Root obeys it at boot, so a umask gives no other user the right to write there."""
    before = os.umask(mask)
    try:
        path = config_files.save("swap0", {"compressor": "zstd:3"})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_what_others_may_change_is_not_obeyed(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("etc/fuseswap.conf.d/90-swap0.conf", "[swap0]\nbacking = /tmp/theirs\n")
    path.chmod(0o666)
    assert main(["config", "check"]) == 2
    said = capsys.readouterr().err
    assert said.endswith(
        f"{path} can be written to by others (mode 0666); run: chmod go-w {path}\n"
    )
    assert said.count("\n") == 1
    path.chmod(0o644)
    path.parent.chmod(0o777)
    for obey in (config_files.sections, lambda: config_files.save("swap0", {"compressor": "lz4"})):
        with pytest.raises(HostError, match=f"^{path.parent}, above {path}, can be written to by"):
            obey()
    path.unlink()
    with pytest.raises(HostError, match="can be written to by others"):
        config_files.save("swap0", {"compressor": "lz4"})
    assert list(path.parent.iterdir()) == []


def test_a_file_may_have_another_name(write: Write) -> None:
    """As in an image of the system, where equal files are one."""
    path = write("usr/lib/fuseswap.conf", "[swap0]\n")
    os.link(path, path.with_name("same"))
    assert config_files.sections() == {"swap0": {}}


@pytest.mark.timeout(20)
def test_a_fifo_is_not_waited_for(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("etc/fuseswap.conf", "")
    path.unlink()
    os.mkfifo(path)
    assert main(["config", "check"]) == 2
    assert f"{path} is a FIFO" in capsys.readouterr().err


def test_what_is_no_text_is_refused(write: Write) -> None:
    write("etc/fuseswap.conf", "").write_bytes(b"[swap0]\n# \xff\n")
    with pytest.raises(InvalidArgument, match="is not text in UTF-8"):
        config_files.sections()


@pytest.mark.parametrize(
    "key", ["below-zswap", "host-memory-limit", "size", "zram-size", "zram-resident-limit"]
)
def test_a_number_without_end_is_refused(
    write: Write, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """Python itself converts no more than 4300 digits."""
    write("etc/fuseswap.conf", f"[swap0]\n{key} = {'9' * 6000}\n")
    assert main(["config", "check"]) == 1
    assert f"[swap0] {key}: '999" in capsys.readouterr().err
