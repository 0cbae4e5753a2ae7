"""What a shell offers at a press of a key, in bash and zsh as they are here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fuseswap.cli import completion, manual
from fuseswap.cli.commands import build_parser
from fuseswap.filesystem.parameters import PARAMETERS

ROOT = Path(__file__).parents[3]
# Of a line its words so far, the last being completed; each offer is a line.
_ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
compopt() { :; }
_fuseswap "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two devices, of which one has a tier and a backend."""
    for name in ("swap0", "docs"):
        (tmp_path / name / "mnt" / "stats").mkdir(parents=True)
    for file in ("tier_segments.fast", "curr_pages.cache", "curr_pages.raw0"):
        (tmp_path / "docs" / "mnt" / "stats" / file).touch()
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def offered(*words: str) -> list[str]:
    file = str(ROOT / "mount" / "fuseswap.bash-completion")
    done = subprocess.run(
        ["bash", "-c", _ASK, "bash", file, "fuseswap", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.usefixtures("runtime")
def test_names_of_what_is_there() -> None:
    assert {"swap0", "docs"} <= set(offered("status", ""))
    assert offered("down", "sw") == ["swap0"]
    assert offered("tier", "drain", "f") == ["fast"]
    assert offered("writeback", "--tier", "") == ["fast"]
    assert offered("shrink", "") == ["cache", "raw0"]
    assert offered("tier", "list", "-d", "do") == ["docs"]


@pytest.mark.usefixtures("runtime")
def test_names_of_this_version() -> None:
    assert offered("get", "swap0", "") == sorted(p.name for p in PARAMETERS)
    assert offered("set", "swap0", "compr") == ["compressor="]
    assert offered("set", "swap0", "compressor=lz4", "dedup") == ["dedup="]
    assert offered("status", "-o", "NAME,SAVED-D") == ["NAME,SAVED-DUP"]
    assert offered("ps", "--sort", "TA") == ["TAKES"]
    assert offered("up", "--transport", "") == ["devfuse", "pyfuse3"]


def test_commands_and_options() -> None:
    assert offered("writ") == ["writeback"]
    assert offered("config", "s") == ["show"]
    assert offered("up", "--pool") == ["--pool-limit"]


def test_every_argument_is_known_or_free() -> None:
    known = {*completion.known(), *completion.FREE}
    words = {manual.word_of(action) for action in completion.arguments(build_parser())}
    assert words <= known
    assert words >= completion.FREE, "what no command has any more"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
@pytest.mark.usefixtures("runtime")
def test_zsh_reads_it_and_looks_names_up() -> None:
    file = ROOT / "mount" / "_fuseswap"
    subprocess.run(["zsh", "-n", str(file)], check=True)
    ask = (
        "compdef() { :; }; _arguments() { :; }; compadd() { shift; print -l -- $@ }; "
        'source "$1"; _fuseswap_devices; _fuseswap_tiers'
    )
    words = ["zsh", "-f", "-c", ask, "zsh", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert {"docs", "swap0", "fast"} <= set(done.stdout.split()), done.stderr
