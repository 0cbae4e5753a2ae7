"""The Debian package: lintian finds nothing, and it is installed, used and purged.

All that happens on an overlay of this machine's root, in namespaces of its own: the machine stays
as it is, and no process outlives the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounted_devices import SOURCE, must, wait_until

# The build takes packages from the network, and one of all processors.
pytestmark = [pytest.mark.no_swap, pytest.mark.timeout(480)]

_ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs package "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay package "$1/root" -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work"
for each in dev sys; do mount --rbind "/$each" "$1/root/$each"; done
mount -t proc proc "$1/root/proc"
mount -t tmpfs run "$1/root/run"
mkdir "$1/root/package"
cp "$2" "$1/root/package/fuseswap.deb"
cp "$3" "$1/root/package/script"
exec chroot "$1/root" sh -eux /package/script
"""
# What a person does, and what is left.  Of an upgrade, and of one whose workers do not start.
_USE = """
exec 2>&1
cd /
before() { find /etc /opt /usr -xdev -path /usr/local -prune -o -print | sort; }
before >/package/before
dpkg -i /package/fuseswap.deb
fuseswap --version
fuseswap check || [ $? = 2 ]
man -w fuseswap mount.fuseswap fuseswap-up
fuseswap up pkg --size 64M --pool-limit 16M --no-swapon --tune off --priority 5
fuseswap set --save pkg compressor=zstd:3
yes page | head -c 1048576 >/package/pages
file=/run/fuseswap/pkg/mnt/swapfile
dd if=/package/pages of=$file bs=64k conv=notrunc,fsync
head -c 1048576 $file | cmp - /package/pages
fuseswap status pkg -n -o NAME,STATE
dpkg -i /package/fuseswap.deb
[ "$(fuseswap status pkg -n -o RESTARTS)" -eq 1 ]
worker=$(echo /usr/lib/fuseswap/lib/python3*/site-packages/fuseswap/daemon/worker.py)
mv "$worker" /package/worker.py
sh /var/lib/dpkg/info/fuseswap.postinst configure 0.1
[ "$(fuseswap status pkg -n -o RESTARTS)" -eq 1 ]
head -c 1048576 $file | cmp - /package/pages
mv /package/worker.py "$worker"
fuseswap install-host && exit 1 || echo "install-host: exit code $?"
fuseswap install-host --uninstall
dpkg -r fuseswap
! [ -e /run/fuseswap/pkg ]
! [ -e /usr/lib/fuseswap ]
[ -e /etc/fuseswap.conf.d/90-pkg.conf ]
dpkg -i /package/fuseswap.deb
dpkg -P fuseswap
before >/package/after
diff /package/before /package/after
echo all is as it was
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed (scripts/install test)")
    directory = tmp_path_factory.mktemp("package")
    clone = directory / "clone"  # of what is here, committed or not
    must("git", "clone", "-q", "--shared", str(SOURCE), str(clone))
    changed = subprocess.run(
        ["git", "ls-files", "-mco", "--exclude-standard"],
        cwd=SOURCE,
        capture_output=True,
        text=True,
    )
    for name in set(changed.stdout.split()):
        if (SOURCE / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, clone / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    must("git", "-C", str(clone), "add", "-A")
    must("git", "-C", str(clone), *identity, "commit", "-q", "--allow-empty", "-m", "as it is here")
    environment = {**os.environ, "FUSESWAP_CORE": "interpreted"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(clone / "scripts" / "package"), "deb", str(directory)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def lintian(package: Path) -> Iterator[subprocess.Popen[str]]:
    """It reads every file, and runs beside the other test."""
    words = ["lintian", "--allow-root", "--fail-on", "error,warning", str(package)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        yield running
        running.kill()


def loop_devices() -> str:
    return must("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")


@pytest.mark.usefixtures("lintian")
def test_it_is_installed_used_and_purged(package: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(_USE)
    place = tmp_path / "place"
    place.mkdir()
    before = sorted(os.listdir("/usr/lib")), sorted(os.listdir("/etc"))
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
    words += map(str, (place, package, script))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stdout.endswith("all is as it was\n")
    assert "pkg running" in " ".join(done.stdout.split())
    assert "fuseswap: pkg was not restarted: " in done.stdout
    assert "fuseswap: devices that were not restarted go on with the code that they" in done.stdout
    refused = "the Debian package has put all of it in place, and apt removes it again"
    assert f"\nfuseswap: {refused}\n" in done.stdout
    assert "\ninstall-host: exit code 2\n" in done.stdout
    assert "nothing was installed here by install-host\n" in done.stdout
    assert (sorted(os.listdir("/usr/lib")), sorted(os.listdir("/etc"))) == before
    wait_until("the loop device to go", lambda: "pkg/mnt" not in loop_devices())


def test_lintian_finds_nothing(lintian: subprocess.Popen[str]) -> None:
    said, _ = lintian.communicate(timeout=200)
    assert (lintian.returncode, said) == (0, "")
