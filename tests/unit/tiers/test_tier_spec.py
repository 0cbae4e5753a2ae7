"""What a person writes for a tier: taken as it is meant, or refused in one line."""

from __future__ import annotations

import pytest

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.tier_spec import TierSpec, parse_backing, parse_tier, parse_tiers
from fuseswap.units import MIB


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("file:/path", TierSpec("file0", "file", "/path")),
        ("block:/dev/sdb,priority=-1", TierSpec("block0", "block", "/dev/sdb", priority=-1)),
        (
            "file:/p,limit=1.5M,size=20M,encrypt=no,name=cold,priority=32767",
            TierSpec("cold", "file", "/p", 32767, MIB, 20 * MIB, False),
        ),
        ("file:/a,b+c: d,priority=1", TierSpec("file0", "file", "/a,b+c: d", priority=1)),
        (
            "valkey://me@one:1,two:2/3?cluster=yes&replicas=1,encrypt=yes",
            TierSpec(
                "valkey0", "valkey", "//me@one:1,two:2/3?cluster=yes&replicas=1", encrypt=True
            ),
        ),
        (
            "mirror:file:/a+b+block:/dev/c,name=both",
            TierSpec(
                "both",
                "mirror",
                "file:/a+b+block:/dev/c",
                parts=(TierSpec("0", "file", "/a+b"), TierSpec("1", "block", "/dev/c")),
            ),
        ),
    ],
)
def test_what_it_means(text: str, spec: TierSpec) -> None:
    assert parse_tier(text) == spec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no tier; write it like file:/path"),
        ("/path", "'/path' is no tier"),
        ("file:", "'file:' is no tier"),
        ("file:path", "'file:path' is no tier: the path must begin with /"),
        ("file:/p,prio=5", "a tier has no option 'prio'; it has: name, priority"),
        ("file:/p,priority=1,priority=2", "'priority' is there twice"),
        ("file:/p,priority=32768", "priority 32768 is not between -32768 and 32767"),
        ("file:/p,priority=high", "priority 'high' is not a number"),
        ("file:/p,limit=1K", "limit 1K is less than 1M"),
        ("file:/p,size=1K", "size 1K is less than 1M"),
        ("file:/p,size=large", "'large' is not a size"),
        ("file:/p,encrypt=maybe", "encrypt is yes or no, not 'maybe'"),
        ("file:/p,name=No", "'No' is no name of a tier"),
        ("file:/p,name=there", "there is a tier 'there' already"),
        ("mirror:file:/a", "a mirror is of two tiers"),
        ("mirror:file:/a+file:/b+file:/c", "a mirror is of two tiers"),
        ("mirror:file:/a+mirror:file:/b", "a mirror is of two tiers"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_tier(text, ["there"])
    assert str(refused.value).startswith(says)


def test_names_are_given_in_order() -> None:
    texts = ["file:/a", "block:/dev/b", "file:/c", "file:/d,name=file3", "file:/e"]
    names = [spec.name for spec in parse_tiers(texts, ["file1"])]
    assert names == ["file0", "block0", "file2", "file3", "file4"]


def test_a_mirror_has_two_leaves() -> None:
    assert [leaf.rest for leaf in parse_tier("mirror:file:/a+file:/b").leaves] == ["/a", "/b"]
    assert [leaf.rest for leaf in parse_tier("file:/a").leaves] == ["/a"]


@pytest.mark.parametrize(
    ("text", "path", "encrypt"),
    [
        ("/a", "/a", True),
        ("/a,encrypt=yes", "/a", True),
        ("/a,encrypt=no", "/a", False),
        ("/a,b=c", "/a,b=c", True),
        ("none", "none", True),
    ],
)
def test_the_backing_file_may_stay_readable(text: str, path: str, encrypt: bool) -> None:
    assert parse_backing(text) == (path, encrypt)


def test_anything_else_is_no_answer() -> None:
    with pytest.raises(InvalidArgument, match="encrypt is yes or no, not 'maybe'"):
        parse_backing("/a,encrypt=maybe")
