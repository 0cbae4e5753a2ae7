"""Files of tiers, as commands open them, and what a worker makes of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon import attachment, tier_files
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.worker_tiers import WorkerTiers
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.tier_spec import parse_tier, parse_tiers
from fuseswap.units import MIB
from tests.unit.daemon.test_device_files import OLD

SIZE = 10 * MIB


def test_a_tier_of_a_new_file(tmp_path: Path) -> None:
    one = tier_files.open_tier(parse_tier(f"file:{tmp_path}/a,encrypt=no"), "swap0", SIZE)
    file = {"path": f"{tmp_path}/a", "size_bytes": SIZE + 2 * MIB, "made": True, "former": None}
    assert one.name == "tier:file0"
    assert one.description == {"kind": "file", "encrypt": False, "files": [file]}
    assert tier_files.size_bytes(one) == SIZE + 2 * MIB == (tmp_path / "a").stat().st_size
    with pytest.raises(HostError, match="in use"):
        tier_files.release(one, "swap0")
    attachment.close(one.fds)
    with pytest.raises(HostError, match="not of 'swap1' any more"):
        tier_files.release(one, "swap1")
    tier_files.release(one, "swap0")
    assert not (tmp_path / "a").exists()


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
        (["mirror:file:/a+file:/b"], "there is no kind of tier 'mirror'"),
        (["file:/a,encrypt=yes"], "tier 'file0' can't be encrypted"),
        (["rfc1149:pigeon"], "there is no kind of tier 'rfc1149'"),
        (["block:/a"], "/a is no block device; for a file: file:/a"),
        (["file:/a,size=17T"], "/a is larger than 16T"),
    ],
)
def test_contradictions(texts: list[str], says: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        tier_files.check(parse_tiers(texts), SIZE)
    assert str(refused.value).startswith(says)


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
    (tier,) = tiers.tiers()
    assert isinstance(tier, FileTier)
    assert (tier.name, tier.extent_count) == ("file0", SIZE // MIB)
    tiers.close()


def test_a_worker_without_a_tier_gets_one(one: Attachment) -> None:
    tiers = worker_tiers()
    assert (tiers.is_needed, tiers.engine, tiers.tiers()) == (False, None, [])
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
    unknown = Attachment("tier:odd", (0,), {"kind": "rfc1149"})
    tiers = worker_tiers(unknown, one)
    assert [tier.name for tier in tiers.tiers()] == ["file0"]
    assert "tier odd is missing: this worker knows no tier of the kind 'rfc1149'" in caplog.text
    tiers.close()
