"""What `scripts/quickstart` installs belongs to root: a clone may be an ordinary user's."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from fuseswap.cli import main
from tests.support.mounted_devices import NOBODY, SOURCE, must, run

_COPIED = (
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs",
    "fuseswap",
    "scripts",
    "mount",
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a user, who may change it at any time."""
    path = tmp_path_factory.mktemp("clone")
    for name in _COPIED:
        if (SOURCE / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCE / name, path / name, ignore=ignored)
        else:
            shutil.copy(SOURCE / name, path / name)
    for each in (path, *path.rglob("*")):
        os.chown(each, NOBODY, NOBODY)
    return path


@pytest.fixture(scope="module")
def root(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root")
    must(str(clone / "scripts" / "install"), "system", str(path))
    return path


def test_everything_belongs_to_root_and_no_link_leads_to_the_clone(root: Path, clone: Path) -> None:
    found = [root, *root.rglob("*")]
    assert len(found) > 100
    for each in found:
        status = each.lstat()
        assert status.st_uid == 0, each
        assert stat.S_ISLNK(status.st_mode) or not status.st_mode & 0o022, each
        assert not each.resolve().is_relative_to(clone), each
    texts = [each for each in found if each.suffix in (".pth", ".json", ".txt") and each.is_file()]
    assert not [each for each in texts if str(clone) in each.read_text(errors="replace")]


def test_its_core_is_compiled(root: Path) -> None:
    assert list(root.rglob("fuseswap_core__mypyc.*.so"))
    assert not list(root.rglob("mypy"))


def test_nothing_is_left_in_the_clone(root: Path, clone: Path) -> None:
    assert {each.name for each in clone.iterdir()} == set(_COPIED)


def test_the_clone_can_not_change_what_root_runs(root: Path, clone: Path) -> None:
    command = root / "usr" / "local" / "bin" / "fuseswap"
    (clone / "fuseswap" / "__init__.py").write_text("raise SystemExit('changed')\n")
    (clone / "mount" / "mount.fuseswap").write_text("changed\n")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = run([str(command), "--version"], env=environment, cwd=clone)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fuseswap ")
    helper = root / "sbin" / "mount.fuseswap"
    assert helper.read_bytes() == (SOURCE / "mount" / "mount.fuseswap").read_bytes()
    assert helper.stat().st_mode & 0o111 == 0o111


def test_the_hosts_parts_are_there_and_go_again(root: Path) -> None:
    command = str(root / "usr" / "local" / "lib" / "fuseswap" / "bin" / "fuseswap")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    def install_host(*options: str) -> tuple[int, str]:
        words = [command, "install-host", "--prefix", f"{root}/", *options]
        done = run(words, env=environment, cwd=root)
        return done.returncode, done.stdout + done.stderr

    parts = {
        root / "sbin" / "mount.fuseswap",
        root / "usr/local/bin/fuseswap",
        root / "usr/local/lib/systemd/system/fuseswap@.service",
        root / "usr/local/lib/systemd/system/swap.d/fuseswap.conf",
        root / "usr/local/lib/systemd/system-generators/fuseswap-generator",
        root / "usr/local/share/bash-completion/completions/fuseswap",
        root / "usr/local/share/zsh/site-functions/_fuseswap",
    }
    pages = {each.name for each in (SOURCE / "docs" / "man").glob("*.8")}
    assert {"fuseswap.8", "mount.fuseswap.8", "fuseswap-up.8"} <= pages
    parts |= {root / "usr/local/share/man/man8" / name for name in pages}
    assert all(each.exists() for each in parts)
    changed = root / "sbin" / "mount.fuseswap"
    changed.write_text("#!/bin/sh\n")
    code, said = install_host("--uninstall")
    assert (code, f"{changed} was changed since, and stays" in said) == (2, True), said
    assert {each for each in parts if os.path.lexists(each)} == {changed}
    assert install_host("--uninstall") == (0, "nothing was installed here by install-host\n")
    code, said = install_host()
    assert code == 0, said
    assert {Path(line) for line in said.splitlines()} == parts
    assert install_host("--uninstall")[0] == 0
    assert not [each for each in parts if os.path.lexists(each)]


def test_what_a_user_may_change_is_not_installed_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "root"
    command = tmp_path / "venv" / "bin" / "fuseswap"
    command.parent.mkdir(parents=True)
    target.mkdir()
    monkeypatch.setattr("sys.prefix", str(tmp_path / "venv"))
    words = ["install-host", "--prefix", str(target)]
    assert main(words) == 2
    assert "is missing; install fuseswap with pip first" in capsys.readouterr().err
    command.touch()
    os.chown(command, NOBODY, NOBODY)
    assert main(words) == 2
    assert f"{command} can be changed by others than root" in capsys.readouterr().err
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("below", ["home", "home/venv/bin"])
def test_nor_what_lies_in_a_users_directory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    below: str,
) -> None:
    """He renames what is root's, and puts his own in its place."""
    target, prefix = tmp_path / "root", tmp_path / "home" / "venv"
    target.mkdir()
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "fuseswap").touch()
    monkeypatch.setattr("sys.prefix", str(prefix))
    theirs = tmp_path / below
    os.chown(theirs, NOBODY, NOBODY)
    assert main(["install-host", "--prefix", str(target)]) == 2
    said = capsys.readouterr().err
    assert f"{theirs}, on the way to " in said
    assert said.count("\n") == 1
    assert list(target.iterdir()) == []
    os.chown(theirs, 0, 0)
    main(["install-host", "--prefix", str(target)])  # refused if this clone is a user's
    assert str(theirs) not in capsys.readouterr().err
