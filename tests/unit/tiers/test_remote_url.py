"""Addresses of remote tiers, and files of credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.remote_url import RemoteUrl, parse_url


def test_a_plain_address() -> None:
    assert parse_url("valkey://10.0.0.2") == RemoteUrl((("10.0.0.2", 6379),))
    assert parse_url("valkey://[::1]:7000/3").hosts == (("::1", 7000),)
    assert parse_url("redis://h:1/3").database == 3


def test_everything() -> None:
    found = parse_url(
        "valkey://joe@a:1,b,c:3?cluster=yes&replicas=1&tls=yes&ca=/ca.pem"
        "&credentials=/secret&timeout=0.5"
    )
    assert found == RemoteUrl(
        hosts=(("a", 1), ("b", 6379), ("c", 3)),
        user="joe",
        cluster=True,
        replicas=1,
        tls=True,
        ca="/ca.pem",
        credentials="/secret",
        timeout_s=0.5,
    )
    assert parse_url("valkey://a,b?sentinel=main").sentinel == "main"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a", "is not valkey://"),
        ("valkey://", "is not valkey://"),
        ("valkey://joe:secret@a", "no password"),
        ("valkey://a:0", "is not HOST:PORT"),
        ("valkey://a:x", "is not HOST:PORT"),
        ("valkey://a,,b?cluster=yes", "is not HOST:PORT"),
        ("valkey://a,b", "several hosts"),
        ("valkey://a/x", "no number"),
        ("valkey://a/1?cluster=yes", "database 0"),
        ("valkey://a?cluster=yes&sentinel=x", "exclude"),
        ("valkey://a?cluster=maybe", "neither yes nor no"),
        ("valkey://a?replicas=-1", "not between"),
        ("valkey://a?timeout=0", "not between"),
        ("valkey://a?ca=/x", "tls=yes"),
        ("valkey://a?credentials=x", "absolute"),
        ("valkey://a?colour=red", "is none of"),
        ("valkey://a#x", "has a '#'"),
    ],
)
def test_one_line_says_what_is_wrong(url: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason) as error:
        parse_url(url)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("user=joe\npassword=a=b c\n")
    path.chmod(0o600)
    return path


def test_credentials_come_from_a_private_file(secret: Path) -> None:
    found = parse_url(f"valkey://a?credentials={secret}").read_credentials()
    assert found == ("joe", "a=b c")
    assert "a=b c" not in repr(found)
    assert parse_url(f"valkey://ann@a?credentials={secret}").read_credentials().user == "ann"
    assert parse_url("valkey://ann@a").read_credentials() == ("ann", None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601])
def test_a_file_that_others_may_read_is_refused(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    url = parse_url(f"valkey://a?credentials={secret}")
    with pytest.raises(InvalidArgument, match=f"mode 0{mode:o}; run: chmod 600"):
        url.read_credentials()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(secret: Path) -> None:
    os.chown(secret, 12345, 0)
    with pytest.raises(InvalidArgument, match="belongs to user 12345"):
        parse_url(f"valkey://a?credentials={secret}").read_credentials()


def test_a_file_that_is_missing_or_something_else(secret: Path) -> None:
    with pytest.raises(InvalidArgument, match="No such file"):
        parse_url(f"valkey://a?credentials={secret}x").read_credentials()
    for text in ("secret\n", "user=joe\n", "password=x\nhost=y\n"):
        secret.write_text(text)
        with pytest.raises(InvalidArgument, match="wanted are"):
            parse_url(f"valkey://a?credentials={secret}").read_credentials()


def test_certificates_come_from_a_file_that_others_cannot_change(secret: Path) -> None:
    one = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    url = parse_url(f"valkey://a?tls=yes&ca={secret}")
    with pytest.raises(InvalidArgument, match="has no certificate"):
        url.read_ca()
    secret.write_text(f"# Zürich\n{one}\n{one}\n")
    assert url.read_ca() == f"{one}\n{one}"
    secret.chmod(0o622)
    with pytest.raises(InvalidArgument, match="can be written to by others"):
        url.read_ca()
    assert parse_url("valkey://a?tls=yes").read_ca() is None
