"""Files and directories that are ours alone, whatever the umask and whoever was there first."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import private_files

OTHER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture(params=[0o000, 0o022, 0o777], autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """As /tmp: anybody may make something there."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refusal(path: Path) -> str:
    with pytest.raises(HostError) as made:
        private_files.make_directory(path)
    with pytest.raises(HostError) as checked:
        private_files.check_directory(path)
    assert str(made.value) == str(checked.value)
    return str(made.value)


def test_directories_are_made_private(shared: Path) -> None:
    private_files.check_directory(shared / "a" / "b")
    private_files.make_directory(shared / "a" / "b")
    private_files.make_directory(shared / "a" / "b")
    assert mode(shared / "a") == mode(shared / "a" / "b") == 0o700


def test_one_that_was_readable_is_so_no_more(shared: Path) -> None:
    path = shared / "a"
    path.mkdir()
    path.chmod(0o755)
    private_files.check_directory(path)
    assert mode(path) == 0o700


def test_one_that_others_could_write_to_is_not_used(shared: Path) -> None:
    path = shared / "a"
    path.mkdir()
    path.chmod(0o770)
    assert f"{path} can be written to by others (mode 0770)" in refusal(path)


def test_a_link_is_not_followed(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    target.chmod(0o755)
    path = shared / "a"
    path.symlink_to(target)
    assert f"{path} is a symbolic link" in refusal(path)
    assert mode(target) == 0o755


def test_a_link_that_leads_nowhere_makes_nothing(shared: Path, tmp_path: Path) -> None:
    (shared / "a").symlink_to(tmp_path / "target")
    assert "leads nowhere" in refusal(shared / "a")
    assert not (tmp_path / "target").exists()


@needs_root
def test_the_directory_of_another_user_is_not_used(shared: Path) -> None:
    path = shared / "a"
    path.mkdir()
    os.chown(path, OTHER, OTHER)
    assert f"{path}, on the way to" not in refusal(path)
    assert f"{path} belongs to user {OTHER}" in refusal(path)
    assert "on the way to" in refusal(path / "below")


def test_a_file_is_no_directory(shared: Path) -> None:
    (shared / "a").touch()
    with pytest.raises(NotADirectoryError):
        private_files.make_directory(shared / "a")


def test_files_are_made_private(shared: Path) -> None:
    path = shared / "file"
    os.close(private_files.open_file(path, os.O_WRONLY))
    assert mode(path) == 0o600
    path.chmod(0o644)
    os.close(private_files.open_file(path, os.O_WRONLY))
    assert mode(path) == 0o600


def test_a_link_is_not_written_through(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    path = shared / "file"
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        private_files.open_file(path, os.O_WRONLY | os.O_TRUNC)
    private_files.replace(path, "new")
    assert (target.read_text(), path.read_text()) == ("kept", "new")
    assert not path.is_symlink()


def test_a_draft_that_was_left_is_not_written_to(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    path = shared / "file"
    (shared / f"file.{os.getpid()}.new").symlink_to(target)
    private_files.replace(path, "new")
    assert (target.read_text(), path.read_text()) == ("kept", "new")
    assert mode(path) == 0o600
    assert [each.name for each in shared.iterdir()] == ["file"]
