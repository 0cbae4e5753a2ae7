"""Plugins: what is found, from which package, and one line of why it does not load."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.errors import HostError, reason_of
from fuseswap.plugins import entry_points as plugins
from fuseswap.plugins.entry_points import Plugin
from tests.support.mounted_devices import SOURCE
from tests.support.packages import Packages

CODEC = "class Good:\n    def compressor(self, level): ...\n    def decompressor(self): ...\n"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    return Packages(tmp_path, monkeypatch)


def load(packages: Packages, source: str, target: str, kind: str = "codec") -> str:
    """What loading the one plugin says."""
    group = {"codec": "codecs", "backend": "backends", "tier": "tiers", "policy": "policies"}[kind]
    packages.add("a-package", {f"fuseswap.{group}": {"one": target}}, source, "1.2")
    (plugin,) = plugins.find()
    assert plugin.kind == kind
    with pytest.raises(HostError) as caught:
        plugin.make()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{kind} 'one' (a-package 1.2) does not load: ")
    return str(caught.value).partition("load: ")[2]


def test_without_packages_there_are_none() -> None:
    assert plugins.find() == []


def test_each_is_found_with_its_package_and_version(packages: Packages) -> None:
    both = {
        "fuseswap.policies": {"p": "second_one:P"},
        "fuseswap.codecs": {"b": "second_one:Good [fast]", "a": "second_one:Good"},
        "console_scripts": {"fuseswap-more": "second_one:main"},
    }
    packages.add("first-one", {"fuseswap.tiers": {"t": "first_one:T"}}, "", "3")
    packages.add("second-one", both, CODEC, "0.1")
    assert plugins.find() == [
        Plugin("codec", "a", "second_one:Good", "second-one", "0.1"),
        Plugin("codec", "b", "second_one:Good", "second-one", "0.1"),
        Plugin("tier", "t", "first_one:T", "first-one", "3"),
        Plugin("policy", "p", "second_one:P", "second-one", "0.1"),
    ]
    assert [one.name for one in plugins.find("tier", "policy")] == ["t", "p"]


def test_finding_imports_nothing_of_it(packages: Packages) -> None:
    packages.add("grave", {"fuseswap.codecs": {"x": "grave:X"}}, "raise SystemExit(3)", "1")
    assert len(plugins.find()) == 1


def test_a_good_one_loads(packages: Packages) -> None:
    packages.add("fine", {"fuseswap.codecs": {"x": "fine:Good"}}, CODEC, "1")
    assert type(plugins.find()[0].make()).__name__ == "Good"


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        ("", "nowhere_at_all:X", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("", "a_package:X", "AttributeError: module 'a_package' has no attribute 'X'"),
        ("raise SystemExit", "a_package:X", "SystemExit"),
        ("raise ValueError('two\\nlines')", "a_package:X", "ValueError: two lines"),
        ("X = 7", "a_package:X", "a_package:X is no class"),
        ("class X: pass", "a_package:X", "a_package:X has no method 'compressor'"),
        (CODEC + "    def __init__(self): 1 / 0", "a_package:Good", "ZeroDivisionError: divis"),
    ],
)
def test_what_does_not_load_is_one_line(
    packages: Packages, source: str, target: str, why: str
) -> None:
    assert load(packages, source, target).startswith(why)


def test_a_policy_has_one_of_its_methods(packages: Packages) -> None:
    both = {"fuseswap.policies": {"none": "pol:N", "one": "pol:O"}}
    source = "class N: pass\nclass O:\n    def recompress_which(self, candidates): ..."
    packages.add("pol", both, source, "1")
    none, one = plugins.find()
    one.load()
    with pytest.raises(HostError, match="has no method 'evict_which'"):
        none.load()


def test_of_all_those_that_do_not_load_are_logged(
    packages: Packages, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"fuseswap.codecs": {"bad": "mixed:Bad", "good": "mixed:Good"}}
    packages.add("mixed", both, CODEC, "2.0")
    with caplog.at_level(logging.ERROR):
        assert plugins.load_all("codec", lambda plugin: plugin.load().__name__) == ["Good"]
    assert caplog.messages == [
        "codec 'bad' (mixed 2.0) does not load: AttributeError: module 'mixed' has no attribute "
        "'Bad'"
    ]


def test_where_there_is_none_nothing_is_imported_for_it() -> None:
    """`importlib.metadata` would be 1.5 MB of each worker."""
    code = "import fuseswap.plugins.entry_points as p, sys; p.find(); "
    code += "print('importlib.metadata' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_reason_is_short_whatever_was_raised() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert reason_of(Mute()) == "Mute"
    assert len(reason_of(ValueError("x" * 5000))) == 200
