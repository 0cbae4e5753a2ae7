"""Constants, and types that keep page numbers, segments and their places apart.

Page numbers count 4096-byte pages from the start of the swapfile.

``offset >> PAGE_SHIFT`` is a `PageNumber` by its type alone.  A call of `PageNumber` costs 40 ns,
so the hot paths make none.  ``slot_word.py`` has the same for `SegmentId`, and ``slot_table.py``
for the first page of a cluster.  The end of a range may be the number of pages, so it is an int.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NewType, cast

PageNumber = NewType("PageNumber", int)
SegmentId = NewType("SegmentId", int)

FIRST_PAGE = PageNumber(0)
NO_PAGE = PageNumber(-1)
NO_SEGMENT = SegmentId(0)


PAGE_SIZE: Final = 4096
KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

# What a slot word can name (``store/slot_word.py``).
MAX_SEGMENTS: Final = 1 << 21

# What a `Location` of 32 bits can name (``store/segment_entry.py``).
MAX_TIERS: Final = 1 << 8
MAX_EXTENTS: Final = 1 << 24  # of 1 MiB: 16 TiB

# True for mypy while it compiles the core, and nowhere else: there a shift that makes a page
# number costs a call, and one that is a plain constant costs nothing.
COMPILED = False

if TYPE_CHECKING and not COMPILED:

    class PageShift(int):
        """The type of `PAGE_SHIFT`: a byte offset shifted by it is a page number."""

        def __rrshift__(self, offset: int, /) -> PageNumber:
            """The page of ``offset``."""
            return PageNumber(offset >> int(self))

    PAGE_SHIFT: PageShift
else:
    PAGE_SHIFT: Final = 12


# `range` and `enumerate` under the types they have here; as they run they are just those.
page_range = cast("Callable[[int, int], Sequence[PageNumber]]", range)
segment_range = cast("Callable[[int, int], Sequence[SegmentId]]", range)
numbered = cast(
    "Callable[[Iterable[int], PageNumber], Iterator[tuple[PageNumber, int]]]", enumerate
)


def page_array(numbers: Iterable[int] | bytes = b"") -> MutableSequence[PageNumber]:
    """Page numbers of 4 bytes each: an array costs an eighth of a list."""
    return cast("MutableSequence[PageNumber]", array("I", numbers))


class SegmentRef(NamedTuple):
    """A segment from its opening to its end: ids are used again, sequences are not."""

    id: SegmentId
    sequence: int


class Location(NamedTuple):
    """A place on a tier: the number of the tier, and of its extent (1 MiB)."""

    tier: int
    extent: int


SEGMENT_SHIFT: Final = 20
SEGMENT_BYTES: Final = 1 << SEGMENT_SHIFT
# Of a segment that a tier keeps encrypted: one tag of 16 bytes more for each page.
ENCRYPTED_SEGMENT_BYTES = SEGMENT_BYTES + PAGE_SIZE
