"""Rates between two samples: also where counters went backwards or are missing."""

from __future__ import annotations

from fuseswap.cli.rates import Sample, rates


def test_nothing_to_compare_with() -> None:
    now = Sample(2.0, {"loads": 10})
    assert rates(None, now) is None
    assert rates(now, now) is None  # no time between them
    assert rates(Sample(3.0, {"loads": 10}), now) is None


def test_over_the_time_that_passed() -> None:
    found = rates(Sample(1.0, {"loads": 10, "stores": 5}), Sample(5.0, {"loads": 110, "stores": 5}))
    assert found is not None
    assert (found.seconds, found.anew) == (4.0, False)
    assert found.per_second == {"loads": 25.0, "stores": 0.0}


def test_one_counter_that_went_backwards_means_all_began_anew() -> None:
    before = Sample(0.0, {"loads": 100, "stores": 3})
    found = rates(before, Sample(2.0, {"loads": 20, "stores": 8}))
    assert found is not None
    assert found.anew
    assert found.per_second == {"loads": 10.0, "stores": 4.0}


def test_another_source_began_anew_even_if_it_counted_further() -> None:
    found = rates(Sample(0.0, {"cpu": 1.0}, source=7), Sample(2.0, {"cpu": 3.0}, source=8))
    assert found is not None
    assert found.anew
    assert found.per_second == {"cpu": 1.5}


def test_a_counter_wrapped_to_zero_is_never_negative() -> None:
    found = rates(Sample(0.0, {"pswpin": (1 << 64) - 1}), Sample(1.0, {"pswpin": 0}))
    assert found is not None
    assert found.per_second == {"pswpin": 0.0}


def test_a_counter_that_one_of_them_lacks_has_no_rate() -> None:
    before = Sample(0.0, {"old": 5, "both": 1})
    for counters in ({"new": 7, "both": 2}, {"new": 7, "both": 0}):
        found = rates(before, Sample(1.0, counters))
        assert found is not None
        assert set(found.per_second) == {"both"}
    none = rates(Sample(0.0, {}), Sample(1.0, {}))
    assert none is not None
    assert none.per_second == {}
