"""The mirror comes from the machine's own sources, in either of apt's styles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.mirror import NoMirror, first_mirror, mirror

DEB822 = """\
Types: deb
# http://snapshot.example/archive/debian/2025
URIs: http://mirror.example/debian
Suites: bookworm
"""


@pytest.mark.parametrize(
    "line",
    [
        "deb http://mirror.example/debian bookworm main",
        "deb [signed-by=/k.gpg] http://mirror.example/debian/ bookworm main",
        "URIs: http://mirror.example/debian",
        "URIs: https://other.example/ubuntu http://mirror.example/debian/",
    ],
)
def test_both_styles_are_read(line: str) -> None:
    assert first_mirror([line]) == "http://mirror.example/debian"


@pytest.mark.parametrize(
    "line",
    [
        "# deb http://mirror.example/debian bookworm main",
        "deb-src http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian-security bookworm-security main",
        "deb https://packages.example/apt tool main",
        "Suites: bookworm",
    ],
)
def test_what_has_no_kernels_is_no_mirror(line: str) -> None:
    assert first_mirror([line]) is None


def test_the_first_of_all_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.list").write_text("deb https://packages.example/apt x main\n")
    (tmp_path / "sources.list.d/b.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/c.sources.disabled").write_text("URIs: http://no.example/debian\n")
    assert mirror(tmp_path) == "http://mirror.example/debian"


def test_without_one_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoMirror, match="names no Debian mirror"):
        mirror(tmp_path)
