"""``fuseswap plugins``, and a compressor of a plugin for `up`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuseswap.cli import main
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.filesystem.plugged import full_compressor_name, load_plugged
from tests.support.packages import Packages
from tests.support.plugged import EXAMPLES

SOURCE = """
from fuseswap_examples.deflate import Deflate
class Other(Deflate):
    name = "another"
class BadName(Deflate):
    name = "bad name"
class Policy:
    def evict_which(self, candidates): return 0
"""
CODECS = {
    "deflate": "one:Deflate",
    "other": "one:Other",
    "gone": "one:Gone",
    "bad name": "one:BadName",
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    found = Packages(tmp_path, monkeypatch)
    policies = {"default": "one:Policy", "mine": "one:Policy"}
    found.add("one", {"fuseswap.codecs": CODECS, "fuseswap.policies": policies}, SOURCE, "1.0")
    return found


def test_nothing_is_listed_without_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert main(["plugins", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_each_has_a_line(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "KIND    NAME      PACKAGE  VERSION  LOADS",
        "codec   bad name  one      1.0      no: 'bad name' is no name for a codec: use a-z, 0-9, "
        "- and _",
        "codec   deflate   one      1.0      yes",
        "codec   gone      one      1.0      no: AttributeError: module 'one' has no attribute "
        "'Gone'",
        "codec   other     one      1.0      no: it calls itself 'another'",
        "policy  default   one      1.0      no: 'default' is the name of ours",
        "policy  mine      one      1.0      yes",
    ]


def test_as_json(packages: Packages, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {
        "kind": "codec", "name": "deflate", "target": "one:Deflate", "package": "one",
        "version": "1.0", "loads": True, "error": "",
    }  # fmt: skip
    assert [row["name"] for row in rows if row["loads"]] == ["deflate", "mine"]


def test_a_worker_has_those_that_load(packages: Packages) -> None:
    plugged = load_plugged()
    assert [codec.name for codec in plugged.codecs] == ["deflate"]
    assert [policy.name for policy in plugged.policies] == ["mine"]
    assert [health.name for health in plugged.health] == ["deflate", "mine"]


@pytest.mark.parametrize("text", ["deflate", " deflate:3\n", "lz4", "zstd"])
def test_up_takes_them(packages: Packages, text: str) -> None:
    assert full_compressor_name(text).partition(":")[0] == text.strip().partition(":")[0]


def test_up_refuses_others_with_those_there_are(packages: Packages) -> None:
    with pytest.raises(InvalidArgument, match="use lz4, zstd, bad name, deflate, gone or other"):
        full_compressor_name("lzo")
    with pytest.raises(InvalidArgument, match="deflate has levels 1 to 9"):
        full_compressor_name("deflate:10")
    with pytest.raises(HostError, match=r"codec 'gone' \(one 1\.0\) does not load: Attr"):
        full_compressor_name("gone:1")


def test_each_example_is_under_40_lines() -> None:
    sources = list((EXAMPLES / "fuseswap_examples").glob("*.py"))
    assert len(sources) == 8
    assert all(len(source.read_text().splitlines()) < 40 for source in sources)
