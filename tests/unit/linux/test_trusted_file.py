"""Files that another user could change or exchange are refused, in one line that mends it."""

from __future__ import annotations

import grp
import os
import shlex
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import trusted_file

OTHER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a" / "file"
    found.parent.mkdir()
    found.write_bytes(b"content")
    found.chmod(0o600)
    return found


def refusal(path: Path) -> str:
    """The one line, of looking as of opening."""
    with pytest.raises(HostError) as looked:
        trusted_file.status_of(str(path))
    with pytest.raises(HostError) as opened:
        os.close(trusted_file.open_file(str(path), os.O_RDWR | os.O_CREAT))
    assert str(looked.value) == str(opened.value)
    assert "\n" not in str(opened.value)
    return str(opened.value)


def mend(line: str) -> None:
    """Run what the line says."""
    subprocess.run(shlex.split(line.partition("; run: ")[2]), check=True)


def content(path: Path) -> bytes:
    fd = trusted_file.open_file(str(path), os.O_RDONLY)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def test_a_file_of_ours_is_opened(path: Path) -> None:
    assert content(path) == b"content"
    found = trusted_file.status_of(str(path))
    assert found
    assert found.st_ino == path.stat().st_ino


def test_what_is_not_there_is_made_private_and_once(path: Path) -> None:
    new = path.with_name("new")
    assert trusted_file.status_of(str(new)) is None
    with pytest.raises(FileNotFoundError):
        trusted_file.open_file(str(new), os.O_RDWR)
    mask = os.umask(0)
    try:
        fd = trusted_file.open_file(str(new), os.O_RDWR | os.O_CREAT)
    finally:
        os.umask(mask)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        trusted_file.status_of(str(path.parent / "missing" / "file"))


@needs_root
def test_the_file_of_another_user(path: Path) -> None:
    os.chown(path, OTHER, 0)
    line = refusal(path)
    assert line.startswith(f"{path} belongs to user {OTHER}, who could change pages; run: chown")
    mend(line)
    assert content(path) == b"content"


@needs_root
def test_the_directory_of_another_user(path: Path) -> None:
    os.chown(path.parent, OTHER, 0)
    line = refusal(path)
    assert line.startswith(f"{path.parent}, on the way to {path}, belongs to user {OTHER}")
    mend(line)
    assert content(path) == b"content"


@pytest.mark.parametrize("mode", [0o602, 0o666])
def test_a_file_that_others_may_write_to(path: Path, mode: int) -> None:
    path.chmod(mode)
    line = refusal(path)
    assert line.startswith(f"{path} can be written to by others (mode 0{mode:o}); run: chmod")
    mend(line)
    assert content(path) == b"content"


@needs_root
def test_a_file_that_a_group_may_write_to(path: Path) -> None:
    path.chmod(0o660)
    assert "can be written to by others (mode 0660)" in refusal(path)


def test_a_directory_that_others_may_write_to(path: Path) -> None:
    path.parent.chmod(0o777)
    line = refusal(path)
    assert line.startswith(f"{path.parent}, above {path}, can be written to by others; run: chmod")
    mend(line)
    assert content(path) == b"content"


@needs_root
def test_a_directory_of_a_group(path: Path) -> None:
    os.chown(path.parent, 0, OTHER)
    path.parent.chmod(0o775)
    assert "can be written to by others" in refusal(path)


def test_in_a_sticky_directory_others_can_exchange_nothing_of_ours(path: Path) -> None:
    path.parent.chmod(0o1777)
    assert content(path) == b"content"


@needs_root
def test_in_a_sticky_directory_what_another_made_is_refused(path: Path) -> None:
    path.parent.chmod(0o1777)
    trap = path.with_name("trap")
    trap.symlink_to(path)
    os.chown(trap, OTHER, 0, follow_symlinks=False)
    assert f"{trap} belongs to user {OTHER}" in refusal(trap)


def test_a_second_name(path: Path) -> None:
    os.link(path, path.with_name("second"))
    assert refusal(path).startswith(f"{path} has 2 names, it needs to have one; see: find")


def test_a_link_that_leads_nowhere(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("nowhere")
    line = refusal(link)
    assert line == f"{link} is a link that leads nowhere; run: rm {link}"
    mend(line)
    assert trusted_file.status_of(str(link)) is None


def test_a_link_to_a_file_is_read_and_not_written_through(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("../a/file")
    assert content(link) == b"content"
    with pytest.raises(HostError, match=f"is a symbolic link; give the file itself: {path}"):
        trusted_file.open_file(str(link), os.O_RDWR)


def test_a_link_on_the_way_is_followed(path: Path) -> None:
    (path.parent.parent / "way").symlink_to(path.parent)
    assert content(path.parent.parent / "way" / "file") == b"content"


def test_links_that_lead_to_themselves(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("link")
    assert refusal(link) == f"{link} leads from link to link"


def test_a_fifo_is_refused_and_not_waited_for(path: Path) -> None:
    fifo = path.with_name("fifo")
    os.mkfifo(fifo)
    assert refusal(fifo) == f"{fifo} is a FIFO, neither a regular file nor a block device"


def test_other_things_have_a_sentence_each(path: Path) -> None:
    assert refusal(path.parent) == (
        f"{path.parent} is a directory, neither a regular file nor a block device"
    )
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path.with_name("s")))
        assert "s is a socket" in refusal(path.with_name("s"))
    assert "is a character device" in refusal(Path("/dev/null"))
    assert refusal(path / "below") == f"{path} is no directory"


def test_a_private_text(path: Path) -> None:
    assert trusted_file.read_text(str(path), private=True) == "content"
    path.chmod(0o640)
    assert trusted_file.read_text(str(path), private=False) == "content"
    with pytest.raises(HostError, match=r"has mode 0640; run: chmod 600"):
        trusted_file.read_text(str(path), private=True)


def test_a_file_that_another_process_has_open_is_left_as_it_was(path: Path) -> None:
    """It may be a user's, who opened it before it was given to root."""
    path.chmod(0o644)
    fd = trusted_file.open_file(str(path), os.O_RDWR)
    with open(path, "rb"), pytest.raises(HostError, match="is open in another process; see: lsof"):
        trusted_file.make_private(fd, str(path))
    assert path.stat().st_mode & 0o777 == 0o644
    trusted_file.make_private(fd, str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    os.close(fd)


@needs_root
def test_a_block_device_may_be_of_the_group_of_disks(tmp_path: Path) -> None:
    """It is looked at, not opened: there is none of that number."""
    path = tmp_path / "sda"
    try:
        os.mknod(path, 0o660 | stat.S_IFBLK, os.makedev(259, 1048575))
    except PermissionError:
        pytest.skip("no device may be made here")
    path.chmod(0o660)
    disk = grp.getgrnam("disk").gr_gid
    for group in (0, disk):
        os.chown(path, 0, group)
        assert trusted_file.status_of(str(path))
    link = tmp_path / "by-id"
    link.symlink_to("sda")
    assert trusted_file.status_of(str(link))
    with pytest.raises(OSError, match="No such device"):
        trusted_file.open_file(str(link), os.O_RDWR | os.O_EXCL)
    os.chown(path, 0, OTHER)
    assert "can be written to by others (mode 0660)" in refusal(path)
    os.chown(path, OTHER, disk)
    assert f"belongs to user {OTHER}" in refusal(path)


@needs_root
def test_what_is_only_looked_at_may_be_anything(path: Path) -> None:
    """Where a sticky bit is not enough: others may add to such a directory."""
    assert trusted_file.check(str(path)).st_size == len(b"content")
    directory = str(path.parent)
    assert stat.S_ISDIR(trusted_file.check(directory).st_mode)
    path.parent.chmod(0o1777)
    assert trusted_file.check(str(path))
    with pytest.raises(HostError, match=f"^{directory} can be written to by others"):
        trusted_file.check(directory)
    path.parent.chmod(0o755)
    os.chown(path.parent, OTHER, 0)
    for each in (directory, str(path)):
        with pytest.raises(HostError, match=f"^{directory}.* belongs to user {OTHER}"):
            trusted_file.check(each)
    with pytest.raises(FileNotFoundError):
        trusted_file.check(f"{path.parent.parent}/missing")
