"""Pages with the same contents."""

from __future__ import annotations

from tests.support import pages

SAME = pages.compressible(1)
