"""What dm-crypt decrypts to noise is known, and what has a signature is not taken for noise."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import crypt_device
from fuseswap.units import MIB

DEVICE = os.makedev(253, 7)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    path = tmp_path / "noise"
    path.write_bytes(random.Random(9).randbytes(4 * MIB))
    return path


def uuid(sysfs: Path, text: bytes) -> None:
    (sysfs / "253:7" / "dm").mkdir(parents=True, exist_ok=True)
    (sysfs / "253:7" / "dm" / "uuid").write_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"CRYPT-PLAIN-cryptswap\n", True),
        (b"CRYPT-LUKS2-0123456789abcdef-home\n", True),
        (b"LVM-0123456789abcdef\n", False),
        (b"part1-CRYPT-LUKS2-0123-home\n", False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_it_is_told_by_its_uuid(tmp_path: Path, text: bytes, expected: bool) -> None:
    uuid(tmp_path, text)
    assert crypt_device.is_crypt(DEVICE, tmp_path) is expected
    assert not crypt_device.is_crypt(os.makedev(253, 8), tmp_path)


def test_a_device_without_a_mapping_is_none(tmp_path: Path) -> None:
    (tmp_path / "253:7").mkdir()
    assert not crypt_device.is_crypt(DEVICE, tmp_path)


def test_noise_has_no_signature_and_swap_has(noise: Path) -> None:
    with noise.open("r+b") as file:
        assert not crypt_device.has_signature(file.fileno())
        file.seek(4096 - 10)
        file.write(b"SWAPSPACE2")
        file.seek(1024)
        file.write(bytes([1, 0, 0, 0, 0xFF, 3, 0, 0]).ljust(512, b"\0"))
        file.flush()
        assert crypt_device.has_signature(file.fileno())


def test_a_file_is_never_noise(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypt_device, "is_crypt", lambda device: True)
    with noise.open("rb") as file:
        assert not crypt_device.holds_noise(file.fileno())


def test_without_blkid_nothing_is_taken_for_noise(
    noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crypt_device, "which", lambda tool: None)
    with noise.open("rb") as file, pytest.raises(HostError, match="is util-linux installed"):
        crypt_device.has_signature(file.fileno())
