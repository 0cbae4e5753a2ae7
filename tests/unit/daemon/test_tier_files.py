"""Files of tiers, as commands open them, and what a worker makes of them."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fuseswap.daemon import attachment, remote_files, tier_files
from fuseswap.daemon import worker_tiers as worker_tiers_module
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.worker_tiers import WorkerTiers
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.tiers import remote_wire
from fuseswap.tiers.encrypted_tier import EncryptedTier
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.remote_tier import RemoteTier
from fuseswap.tiers.tier_spec import parse_tier, parse_tiers
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, MIB
from tests.unit.daemon.test_device_files import OLD

pytestmark = pytest.mark.slow

SIZE = 10 * MIB


@pytest.fixture(autouse=True)
def _numbers_are_free() -> None:
    """Devices of tests before hold descriptors until they are collected."""
    gc.collect()


def test_a_tier_of_a_new_file(tmp_path: Path) -> None:
    one = tier_files.open_tier(parse_tier(f"file:{tmp_path}/a,encrypt=no"), "swap0", SIZE)
    file = {"path": f"{tmp_path}/a", "size_bytes": SIZE + 2 * MIB, "made": True, "former": None}
    assert one.name == "tier:file0"
    leaf = {"kind": "file", "fds": [0], "extent_count": 10}
    assert one.description == {"encrypt": False, "files": [file], "leaves": [leaf]}
    assert tier_files.size_bytes(one) == SIZE + 2 * MIB == (tmp_path / "a").stat().st_size
    with pytest.raises(HostError, match="in use"):
        tier_files.release(one, "swap0")
    attachment.close(one.fds)
    with pytest.raises(HostError, match="not of 'swap1' any more"):
        tier_files.release(one, "swap1")
    tier_files.release(one, "swap0")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("encrypt", ["yes", "no"])
def test_a_tier_that_is_removed_leaves_nothing_to_read(tmp_path: Path, encrypt: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(SIZE))
    one = tier_files.open_tier(parse_tier(f"file:{path},encrypt={encrypt}"), "swap0", SIZE)
    with path.open("r+b") as file:
        file.seek(4 * MIB)
        file.write(b"a page")
    attachment.close(one.fds)
    tier_files.release(one, "swap0")
    assert (b"a page" in path.read_bytes()) == (encrypt == "yes")


def test_a_file_that_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(SIZE))
    one = tier_files.open_tier(parse_tier(f"file:{path}"), "swap0", 99 * MIB)
    assert path.read_bytes()[:8] == b"fuseswap"
    attachment.close(one.fds)
    tier_files.release(one, "swap0")
    assert not any(path.read_bytes())


def test_half_a_mirror_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"data" * SIZE)
    spec = parse_tier(f"mirror:file:{tmp_path}/a+file:{tmp_path}/b")
    with pytest.raises(HostError, match="holds data"):
        tier_files.open_tier(spec, "swap0", SIZE)
    assert not (tmp_path / "a").exists()


def test_those_of_a_device_that_does_not_come_up(tmp_path: Path) -> None:
    specs = parse_tiers([f"file:{tmp_path}/a", f"file:{tmp_path}/b"])

    def fail() -> None:
        with tier_files.opened(specs, "swap0", SIZE) as found:
            assert [one.name for one in found] == ["tier:file0", "tier:file1"]
            assert all(fd >= attachment.FIRST_FD for one in found for fd in one.fds)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with tier_files.opened(specs, "swap0", SIZE):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"], "now the supervisor's"


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["file:/a", "file:/a"], "/a is there twice"),
        (["mirror:file:/a+file:/a"], "/a is there twice"),
        (["valkey://h,encrypt=no"], "tier 'valkey0': what leaves this machine is always encrypted"),
        (["valkey://u:secret@h"], "no password in an address"),
        (["rfc1149:pigeon"], "there is no kind of tier 'rfc1149'; there are: file, block, valkey"),
        (["block:/a"], "/a is no block device; for a file: file:/a"),
        (["file:/a,size=17T"], "/a is larger than 16T"),
    ],
)
def test_contradictions(texts: list[str], says: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        tier_files.check(parse_tiers(texts), SIZE)
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize("text", ["file:{}", "mirror:file:{}+valkey://h", "mirror:file:/a+file:{}"])
def test_a_file_that_another_could_change_or_that_would_hang(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a"
    os.mkfifo(path)
    with pytest.raises(HostError, match=f"{path} is a FIFO"):
        tier_files.check(parse_tiers([text.format(path)]), SIZE)
    path.unlink()
    path.touch()
    path.chmod(0o666)
    with pytest.raises(HostError, match=f"{path} can be written to by others"):
        tier_files.check(parse_tiers([text.format(path)]), SIZE)
    assert path.read_bytes() == b""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Attachment]:
    with tier_files.opened(parse_tiers([f"file:{tmp_path}/a"]), "swap0", SIZE) as found:
        kept = [os.dup(fd) for fd in found[0].fds]
        yield found[0]
    attachment.close(kept)


def worker_tiers(*attachments: Attachment) -> WorkerTiers:
    header = os.memfd_create("header")
    try:
        return WorkerTiers(settings_from(OLD, ""), {"header": header}, [*attachments], None)
    finally:
        os.close(header)


def test_a_worker_makes_a_tier_of_it(one: Attachment) -> None:
    tiers = worker_tiers(one)
    assert tiers.engine is not None, "before it attaches"
    tiers.key = bytes(range(32))
    (tier,) = tiers.tiers()
    assert isinstance(tier, EncryptedTier)
    assert (tier.name, tier.extent_count) == ("file0", SIZE // ENCRYPTED_SEGMENT_BYTES)
    tiers.close()


def test_without_encryption_it_is_the_file_as_it_is(tmp_path: Path) -> None:
    specs = parse_tiers([f"file:{tmp_path}/a,encrypt=no"])
    with tier_files.opened(specs, "swap0", SIZE) as found:
        tiers = worker_tiers(found[0])
        (tier,) = tiers.tiers()
        assert isinstance(tier, FileTier)
        assert (tier.name, tier.extent_count) == ("file0", SIZE // MIB)
        tiers.close()


def test_a_mirror_has_marks_that_outlive_a_worker(tmp_path: Path) -> None:
    specs = parse_tiers([f"mirror:file:{tmp_path}/a+file:{tmp_path}/b,name=both"])
    with tier_files.opened(specs, "swap0", SIZE) as found:
        (one,) = found
        extents = SIZE // ENCRYPTED_SEGMENT_BYTES
        assert os.fstat(one.fds[one.description["marks"]]).st_size == extents
        for only in (None, 0):
            tiers = worker_tiers(one)
            tiers.key = bytes(range(32))
            (tier,) = tiers.tiers()
            assert isinstance(tier, MirroredTier)
            assert all(isinstance(half, EncryptedTier) for half in tier.halves)
            assert [half.name for half in tier.halves] == ["both-0", "both-1"]
            assert tier.only_half(3) == only
            os.pwrite(one.fds[one.description["marks"]], b"\1", 3)
            tiers.close()


def test_a_remote_tier_is_a_socket_pair_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = remote_files.Looked(volatile=True, notes=["slow"])
    monkeypatch.setattr(remote_files, "look_at", lambda leaf: looked)
    one = tier_files.open_tier(parse_tier("valkey://h:1,h:2?cluster=yes"), "swap0", SIZE)
    (leaf,) = one.description["leaves"]
    assert (leaf["rest"], leaf["extent_count"]) == ("valkey://h:1,h:2?cluster=yes", SIZE // MIB)
    assert one.may_forget
    assert tier_files.notes_of(one)[0] == "tier 'valkey0': slow"
    assert os.fstat(one.fds[2]).st_blocks * 512 >= remote_wire.memory_bytes(SIZE // MIB)
    tiers = worker_tiers(one)
    tiers.key = bytes(range(32))
    (tier,) = tiers.tiers()
    assert (tier.volatile, tier.is_remote, tier.extent_count) == (True, True, SIZE // MIB)
    tiers.close()
    attachment.close(one.fds)


def test_writes_to_a_server_wait_as_long_as_its_address_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """1.5 tries."""
    monkeypatch.setattr(remote_files, "look_at", lambda leaf: remote_files.Looked(True, []))
    times: list[dict[str, float]] = []
    made = partial(_note_times, times, RemoteTier)
    monkeypatch.setattr(worker_tiers_module, "RemoteTier", made)
    far = "valkey://h:1?timeout=4"
    for spec in (f"mirror:{far}+file:{tmp_path}/a", f"mirror:{far}+valkey://h:2", far):
        one = tier_files.open_tier(parse_tier(spec), "swap0", SIZE)
        tiers = worker_tiers(one)
        tiers.key = bytes(range(32))
        assert len(tiers.tiers()) == 1
        tiers.close()
        tier_files.give_back(one)
    assert times == [
        {"write_timeout_s": 6.0},
        {"write_timeout_s": 6.0},
        {"write_timeout_s": 3.0},
        {"write_timeout_s": 6.0},
    ]


def _note_times(
    times: list[dict[str, float]], make: type[RemoteTier], *args: Any, **more: Any
) -> RemoteTier:
    times.append({name: value for name, value in more.items() if name.endswith("_timeout_s")})
    return make(*args, **more)


def test_a_worker_that_serves_imports_nothing_for_a_tier(
    one: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = worker_tiers()
    monkeypatch.delitem(sys.modules, "fuseswap.tiers.segment_cipher", raising=False)
    assert not tiers.is_makeable(one)
    plain = one._replace(description={**one.description, "encrypt": False})
    assert tiers.is_makeable(plain)
    tiers.close()


def test_a_worker_without_a_tier_gets_one(one: Attachment) -> None:
    tiers = worker_tiers()
    assert (tiers.is_needed, tiers.engine, tiers.tiers()) == (False, None, [])
    tiers.key = bytes(range(32))
    taken = tiers.take(json.dumps(one.to_json()), [os.dup(fd) for fd in one.fds])
    assert taken == one
    assert tiers.get_ready() == ""
    assert tiers.is_ready
    assert [tier.name for tier in tiers.tiers()] == ["file0"]
    tiers.close()
    tiers.drop("tier:file0")
    tiers.drop("tier:file0")
    assert not tiers.is_needed
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(one.fds[0])
    os.dup2(0, one.fds[0])  # for the fixture


def test_descriptors_that_got_lost(one: Attachment) -> None:
    with pytest.raises(HostError, match="0 of 1 descriptors came"):
        worker_tiers().take(json.dumps(one.to_json()), [])


def test_a_tier_that_can_not_be_made_is_missing(
    one: Attachment, caplog: pytest.LogCaptureFixture
) -> None:
    leaf = {"kind": "rfc1149", "fds": [0]}
    unknown = Attachment("tier:odd", (0,), {"leaves": [leaf]})
    tiers = worker_tiers(unknown, one)
    tiers.key = bytes(range(32))
    assert [tier.name for tier in tiers.tiers()] == ["file0"]
    assert "tier odd is missing: this worker knows no tier of the kind 'rfc1149'" in caplog.text
    tiers.close()
