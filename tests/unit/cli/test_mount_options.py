"""Mount options: what other file systems take is taken, what nobody knows is named."""

from __future__ import annotations

import pytest

from fuseswap.cli.mount_options import parse
from fuseswap.errors import InvalidArgument

# Of lines of fstab as distributions and people write them.
_OF_OTHERS = (
    "defaults,noatime,nodiratime",
    "rw,nofail,x-systemd.device-timeout=10s,x-systemd.makefs,X-mount.mkdir=0755",
    "noauto,user,comment=cold pages",
    "lazytime,discard,sync,_netdev",
    "strictatime,nolazytime,dirsync,silent,iversion,default_permissions,nomand",
)


@pytest.mark.parametrize("text", _OF_OTHERS)
def test_what_others_take_changes_nothing(text: str) -> None:
    found = parse(f"{text},size=96M")
    assert (found.ours, found.is_read_only, found.notes) == ({"size": "96M"}, False, ())


@pytest.mark.parametrize(("text", "expected"), [("ro", True), ("ro,rw", False), ("rw,ro", True)])
def test_of_ro_and_rw_the_last_counts(text: str, expected: bool) -> None:
    assert parse(text).is_read_only is expected


def test_allow_other_is_taken_and_said_to_do_nothing() -> None:
    assert "allow_other changes nothing" in "".join(parse("allow_other").notes)


def test_each_unknown_option_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse("noatime,sizes=1G,sync_all,compressor,max_read=4096")
    said = str(caught.value)
    assert "'sizes=1G'; did you mean 'size'?" in said
    assert "'sync_all'" in said
    assert "'max_read=4096'" in said
    assert "'compressor' needs a value" in said
    assert "noatime" not in said
