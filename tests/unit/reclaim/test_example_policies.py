"""The policies of the example package, each asked what it is for."""

from __future__ import annotations

from fuseswap_examples.cost_age import CostAge
from fuseswap_examples.s3_fifo import S3Fifo
from fuseswap_examples.size_aware import SizeAware

from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.reclaim.policy import Candidate
from fuseswap.units import MIB, SegmentId


def one(
    segment: int,
    age_s: float = 1.0,
    live_bytes: int = MIB,
    pages: int = 500,
    loaded: float = 0.0,
    survived: bool = False,
) -> Candidate:
    return Candidate(SegmentId(segment), age_s, live_bytes, pages, loaded, survived)


def test_s3_fifo_takes_from_the_small_queue_while_it_is_a_tenth() -> None:
    many = [one(n, survived=n != 9) for n in range(1, 10)]
    assert S3Fifo().evict_which(many) == 8
    assert S3Fifo().evict_which([*many, one(20, survived=True)]) == 0
    assert S3Fifo().evict_which([one(1), one(2)]) == 0
    assert S3Fifo().evict_which([one(1, survived=True)]) == 0


def test_s3_fifo_spares_a_survivor_once_for_what_was_loaded() -> None:
    policy = S3Fifo()
    assert not policy.spares(one(1, loaded=0.9))
    assert policy.spares(one(1, loaded=0.5, survived=True))
    assert not policy.spares(one(1, age_s=2.0, loaded=0.5, survived=True))
    assert policy.spares(one(1, age_s=3.0, loaded=0.5, survived=True))
    assert policy.spares(one(1, age_s=0.5, loaded=0.5, survived=True)), "another segment by now"
    assert policy.spares(one(1, age_s=4.0, loaded=0.7, survived=True))


def test_s3_fifo_knows_no_more_than_it_may() -> None:
    policy = S3Fifo()
    for segment in range(1, 3000):
        policy.spares(one(segment, loaded=0.5, survived=True))
    assert len(policy._spared) == 1024
    assert not policy.spares(one(2999, age_s=2.0, loaded=0.5, survived=True))


def test_cost_age_leaves_what_dies_soon() -> None:
    """Segments of 3 s lose half each second, those of 100 s nothing."""
    policy = CostAge()
    young, old = one(1, 3.5, MIB // 2), one(2, 100.0, MIB // 2)
    for round_ in range(1, 20):
        policy.clean_which([one(1, 2.5, MIB), one(2, 100.0 + round_, MIB // 2)])
        policy.clean_which([young, one(2, 100.5 + round_, MIB // 2)])
    assert policy.clean_which([young, old]) == 1
    assert CostAge().clean_which([one(1, 3.5, MIB // 8), one(2, 3.6, MIB // 2)]) == 0, "unlearned"


def test_cost_age_takes_the_sparser_of_one_age() -> None:
    policy = CostAge()
    assert policy.clean_which([one(1, 9.0, MIB // 2), one(2, 9.0, MIB // 3)]) == 1
    for segment in range(1, 3000):
        policy.clean_which([one(segment)])
    assert len(policy._seen) == 1024


def test_size_aware_lets_pages_of_twice_the_mean_leave_first() -> None:
    small = [one(n, live_bytes=600_000, pages=500) for n in range(3)]
    assert SizeAware().largest_kept(small) == 2400
    assert SizeAware().largest_kept([one(1, live_bytes=1000, pages=5)]) == 2048
    large = [one(1, live_bytes=MIB, pages=300)]
    assert SizeAware().largest_kept(large) == MAX_COMPRESSED_BYTES
