"""What a caller's environment may tell root's processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuseswap.daemon import environment
from fuseswap.daemon.crash_points import VARIABLE as CRASH_POINT
from fuseswap.tiers.fault_injection import VARIABLE as FAULTS

UNWANTED = (CRASH_POINT, FAULTS, "PYTHONPATH", "PYTHONMALLOC", "LD_PRELOAD", "OPENSSL_CONF")
MAKERS = (environment.of_supervisor, environment.of_worker, environment.of_tier_process)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNWANTED:
        monkeypatch.setenv(name, "a caller's")
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", "/run/elsewhere")


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize("make", MAKERS)
def test_roots_processes_get_what_is_listed(
    monkeypatch: pytest.MonkeyPatch, make: environment.Maker
) -> None:
    as_user(monkeypatch, 0)
    found = make(testing=False)
    assert "a caller's" not in found.values()
    assert set(found) <= {*environment.KEPT, "MALLOC_ARENA_MAX", "PYTHONMALLOC"}
    assert found["FUSESWAP_RUNTIME_DIR"] == "/run/elsewhere"
    assert found["MALLOC_ARENA_MAX"] == "1"


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("uid", "testing"), [(0, True), (1000, False)])
def test_tests_and_ordinary_users_pass_theirs_on(
    monkeypatch: pytest.MonkeyPatch, make: environment.Maker, uid: int, testing: bool
) -> None:
    as_user(monkeypatch, uid)
    found = make(testing=testing)
    assert {CRASH_POINT, FAULTS, "PYTHONPATH"} <= set(found)


def test_interpreters_of_root_look_at_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)
    assert environment.flags(testing=False)[0] == "-I"
    assert environment.supervisor_flags(testing=False)[:2] == ("-s", "-P")
    assert "-I" not in environment.flags(testing=True)
    assert "-s" not in environment.supervisor_flags(testing=True)


@pytest.mark.parametrize("zone", [":/tmp/zone", "/tmp/zone", ":../../../tmp/zone", "../x"])
@pytest.mark.parametrize("make", MAKERS)
def test_a_zone_that_is_a_path_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, make: environment.Maker, zone: str
) -> None:
    """Each process would open that file."""
    as_user(monkeypatch, 0)
    monkeypatch.setenv("TZ", zone)
    assert "TZ" not in make(testing=False)
    for name in (":Europe/Berlin", "UTC"):
        monkeypatch.setenv("TZ", name)
        assert make(testing=False)["TZ"] == name


@pytest.mark.parametrize("make", MAKERS)
def test_programs_come_from_where_no_other_user_may_write(
    monkeypatch: pytest.MonkeyPatch, make: environment.Maker, tmp_path: Path
) -> None:
    as_user(monkeypatch, 0)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o1777)
    monkeypatch.setenv("PATH", f"{theirs}:.::/tmp:/usr/bin:{tmp_path}/missing")
    assert make(testing=False)["PATH"] == "/usr/bin:/usr/sbin:/sbin:/bin"
    monkeypatch.delenv("PATH")
    assert make(testing=False)["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"
