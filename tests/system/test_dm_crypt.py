"""A mapping of dm-crypt is taken although its zeros are noise; one with a file system is not.

A loop device is called one by a sysfs of the test's: guests and containers have no device mapper.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import crypt_device
from fuseswap.tiers.backing_file import close_backing, open_backing
from fuseswap.units import MIB
from tests.support.mounted_devices import must

SIZE = 24 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "image"
    image.write_bytes(os.urandom(SIZE))
    disk = must("losetup", "--find", "--show", str(image)).strip()
    yield disk
    must("losetup", "--detach", disk)


def map_it(disk: str, sysfs: Path, monkeypatch: pytest.MonkeyPatch, uuid: str) -> None:
    device = os.stat(disk).st_rdev
    where = sysfs / f"{os.major(device)}:{os.minor(device)}" / "dm"
    where.mkdir(parents=True)
    (where / "uuid").write_text(uuid)
    monkeypatch.setattr(crypt_device, "SYSFS", sysfs)


def test_noise_of_dm_crypt_is_taken(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HostError, match="holds data"):
        open_backing(disk, SIZE, "swap0")
    map_it(disk, tmp_path / "sysfs", monkeypatch, "CRYPT-PLAIN-swap")
    opened = open_backing(disk, SIZE, "swap0")
    assert (opened.made, opened.former) == (False, None)
    os.close(opened.fd)  # and does not go down
    monkeypatch.undo()
    opened = open_backing(disk, SIZE, "swap1")
    assert opened.former == "swap0"
    close_backing(opened.fd, disk, made=False)
    os.close(opened.fd)
    opened = open_backing(disk, SIZE, "swap0")
    assert opened.former is None
    os.close(opened.fd)


@pytest.mark.parametrize("make", [("mkfs.ext4", "-q", "-F"), ("mkswap",)], ids=["ext4", "swap"])
def test_what_has_a_signature_is_refused(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: tuple[str, ...]
) -> None:
    must(*make, disk)
    map_it(disk, tmp_path / "sysfs", monkeypatch, "CRYPT-LUKS2-0123-data")
    before = Path(disk).read_bytes()
    with pytest.raises(HostError, match="holds data"):
        open_backing(disk, SIZE, "swap0")
    assert Path(disk).read_bytes() == before


def test_another_mapping_is_refused(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    map_it(disk, tmp_path / "sysfs", monkeypatch, "LVM-0123456789")
    with pytest.raises(HostError, match="holds data"):
        open_backing(disk, SIZE, "swap0")
