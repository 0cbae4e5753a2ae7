"""Whatever stands in the ends of a backing file: a claim that was written, or none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuseswap.tiers.ownership_label import Claim
from tests.support.fuzzed import bounded, bytes_like, tries

CLAIMS = [Claim("swap0", 5 << 30, 0xDEADBEEF, made=True), Claim("n" * 32, 1 << 63, 0, made=False)]
HEADS = [claim.block() for claim in CLAIMS]
TAIL = bytes(64)


@tries(3000)
@given(head=bytes_like(*HEADS), tail=st.just(TAIL) | bytes_like(TAIL))
def test_a_claim_is_one_that_was_written_or_none(head: bytes, tail: bytes) -> None:
    with bounded():
        found = Claim.in_ends(head, tail)
    if found is not None:
        assert found in CLAIMS
        assert found.block().rstrip(b"\0") == head.rstrip(b"\0")
        assert not any(tail)
