"""A Debian kernel for guests: downloaded, unpacked, with an initrd of the modules they need.

apt gets lists and a cache of its own for each suite, and the machine's are left alone.  The
cloud flavour is a third of the size, and has virtio, fuse, loop and zram.
"""

from __future__ import annotations

import lzma
import re
import shutil
import tempfile
from pathlib import Path

from tests.kernels import cache
from tests.kernels.mirror import mirror
from tests.kernels.scenario import KERNELS

_META = "linux-image-cloud-amd64"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
# In this order; what is built in is skipped.  The compressors are zram's.
_MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4", "fuse", "loop",
    "lz4", "lzo-rle", "zstd", "zram",
)  # fmt: skip
_INIT = """#!/bin/sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod $module; done
n=0
while [ ! -b /dev/vdc ] && [ $n -lt 100 ]; do /bin/busybox sleep 0.1; n=$((n+1)); done
/bin/busybox mount -t ext4 -o ro /dev/vda /root
/bin/busybox mount -t ext4 -o ro /dev/vdb /root/source
/bin/busybox mount -t ext4 /dev/vdc /root/scratch
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t sysfs sys /root/sys
/bin/busybox mount -t tmpfs run /root/run
/bin/busybox mount -t tmpfs tmp /root/tmp
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /bin/sh /source/tests/kernels/guest/init
"""


def provide(kernel: str) -> Path:
    """Directory with ``vmlinuz``, ``initrd`` and ``release`` of a kernel of `KERNELS`."""
    made_from = cache.fingerprint(Path(__file__), KERNELS[kernel])
    return cache.provide(f"kernel-{kernel}", made_from, lambda to: _make(KERNELS[kernel], to))


def _make(suite: str, to: Path) -> None:
    tree = to / "tree"
    for package in _download(suite):
        cache.run("dpkg-deb", "-x", package, tree)
    modules = next(path for path in tree.glob("**/lib/modules/*") if path.is_dir())
    release = modules.name
    vmlinuz = next(tree.glob("**/vmlinuz*"))
    vmlinuz.rename(to / "vmlinuz")
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    cache.run("depmod", "-b", tree, release)
    _make_initrd(_modules(tree, release), to / "initrd")
    (to / "release").write_text(release)
    shutil.rmtree(tree)


def _download(suite: str) -> list[Path]:
    """The image and what it depends on of the same source (modules apart, since 7.0)."""
    place = cache.directory() / f"apt-{suite}"
    for part in ("lists/partial", "cache/archives/partial", "debs"):
        (place / part).mkdir(parents=True, exist_ok=True)
    sources = place / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {mirror()} {suite} main\n")
    settings = {
        "Dir::State::lists": place / "lists",
        "Dir::Cache": place / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    cache.run("apt-get", *options, "update", "-qq")

    def depends(package: str, pattern: str) -> list[str]:
        said = cache.run("apt-cache", *options, "depends", package)
        return re.findall(rf"Depends: ({pattern})\s", said)

    image = depends(_META, r"linux-image-\d\S*")[0]
    packages = [image, *depends(image, r"linux-(?:modules|binary|base)-\d\S*")]
    present = {file.name.partition("_")[0]: file for file in (place / "debs").iterdir()}
    missing = [package for package in packages if package not in present]
    if missing:
        cache.run("apt-get", *options, "download", "-qq", *missing, cwd=place / "debs")
    return [next((place / "debs").glob(f"{package}_*.deb")) for package in packages]


def _modules(tree: Path, release: str) -> list[Path]:
    """Files of `_MODULES` and what they need, each after what it needs."""
    files: dict[Path, None] = {}
    for module in _MODULES:
        try:
            said = cache.run("modprobe", "-d", tree, "-S", release, "--show-depends", module)
        except cache.CommandFailed:
            continue  # this kernel has none of that name
        for line in said.splitlines():
            kind, _, file = line.strip().partition(" ")
            if kind == "insmod":
                files[Path(file.split()[0])] = None
    return list(files)


def _make_initrd(modules: list[Path], initrd: Path) -> None:
    """Not compressed: the guest reads 4 MB faster than it unpacks them."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for directory in ("bin", "dev", "modules", "root"):
            (top / directory).mkdir()
        shutil.copy("/usr/bin/busybox", top / "bin/busybox")
        (top / "bin/sh").symlink_to("busybox")
        (top / "init").write_text(_INIT)
        (top / "init").chmod(0o755)
        for number, file in enumerate(modules):
            base = file.name.partition(".")[0]
            (top / f"modules/{number:02}-{base}.ko").write_bytes(_unpacked(file))
        cache.run("sh", "-c", f"find . | cpio -o -H newc --quiet >'{initrd}'", cwd=top)


def _unpacked(module: Path) -> bytes:
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".zst":
        plain = module.with_suffix("")
        cache.run("zstd", "-q", "-d", "-f", module, "-o", plain)
        return plain.read_bytes()
    return module.read_bytes()
