"""The poll window: as long as it pays, and not at all while others want the processor."""

from __future__ import annotations

import pytest

from fuseswap.transport.poll_window import PollWindow

MS = 1_000_000
US = 1000


class FakeProcessors:
    """Crowded when the test says so."""

    def __init__(self) -> None:
        self.crowded = False
        self.looks = 0
        self.closed = False

    def is_crowded(self) -> bool:
        self.looks += 1
        return self.crowded

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def processors() -> FakeProcessors:
    return FakeProcessors()


@pytest.fixture
def window(processors: FakeProcessors) -> PollWindow:
    """With all of 200 us."""
    window = PollWindow(processors)
    window.ns = 200 * US
    return window


def serve(window: PollWindow, now: int, milliseconds: int) -> int:
    """A request every 100 us, which takes 20 us; yields of 5 us between.  The time after that."""
    for _ in range(10 * milliseconds):
        poll(window, now, now + 80 * US)
        now += MS // 10
    return now


def poll(window: PollWindow, now: int, until: int) -> None:
    """As `DevFuse.drain` does, until the next request."""
    end = window.begin(now)
    while now < min(end, until):
        now += 5 * US
        end = window.after_yield(end, now - 5 * US, now)


def test_it_asks_where_none_wants_the_processor(window: PollWindow) -> None:
    assert window.begin(5 * MS) == 5 * MS + 200 * US


def test_the_run_queue_is_looked_at_once_a_millisecond(
    window: PollWindow, processors: FakeProcessors
) -> None:
    serve(window, 0, 20)
    assert 10 <= processors.looks <= 20


def test_it_does_not_look_while_a_request_is_carried_on(
    window: PollWindow, processors: FakeProcessors
) -> None:
    """The kernel's threads run then; they are no crowd."""
    processors.crowded = True
    for number in range(1000):
        poll(window, number * MS, number * MS + 15 * US)
    assert processors.looks == 0


def test_a_window_shorter_than_that_never_looks(
    window: PollWindow, processors: FakeProcessors
) -> None:
    window.ns = 10 * US
    serve(window, 0, 20)
    assert processors.looks == 0


def test_a_crowd_stops_it_within_milliseconds(
    window: PollWindow, processors: FakeProcessors
) -> None:
    processors.crowded = True
    now = serve(window, 0, 4)
    assert window.is_resting
    assert window.begin(now) == now


def test_a_moment_with_one_thread_more_does_not_stop_it(
    window: PollWindow, processors: FakeProcessors
) -> None:
    """As a reply's own threads look."""
    now = 0
    for number in range(300):
        processors.crowded = number % 3 == 0
        now = serve(window, now, 1)
        assert not window.is_resting


def test_it_is_back_within_milliseconds(window: PollWindow, processors: FakeProcessors) -> None:
    processors.crowded = True
    now = serve(window, 0, 500)
    processors.crowded = False
    began = now
    while window.begin(now) == now:
        now += 50 * US
    assert now - began <= 4 * MS
    assert not window.is_resting


def test_after_a_crowd_it_has_the_window_it_had(
    window: PollWindow, processors: FakeProcessors
) -> None:
    processors.crowded = True
    now = serve(window, 0, 5)
    processors.crowded = False
    now = serve(window, now, 5)
    assert window.begin(now) == now + 200 * US


def test_a_short_yield_changes_nothing(window: PollWindow) -> None:
    """A thread of the kernel carried a reply on."""
    end = window.begin(0)
    assert window.after_yield(end, 0, 20 * US) == end
    assert not window.is_resting


def test_a_yield_that_a_computing_thread_took_stops_it_at_once(window: PollWindow) -> None:
    end = window.begin(0)
    now = 3 * MS
    assert window.after_yield(end, 0, now) == now
    assert window.begin(now) == now


def test_after_a_lost_yield_it_is_back_within_milliseconds(window: PollWindow) -> None:
    now = 3 * MS
    window.after_yield(window.begin(0), 0, now)
    assert serve(window, now, 4) - now == 4 * MS
    assert not window.is_resting


def rest_after_a_lost_yield(window: PollWindow, now: int) -> tuple[int, int]:
    """How long, and the time when it polls again."""
    began = now + 3 * MS
    now = window.after_yield(window.begin(now), now, began)
    while window.begin(now) == now:
        now += 100 * US
    return now - began, now


def test_where_yields_get_lost_and_no_look_says_why_rests_become_longer(
    window: PollWindow,
) -> None:
    """A cpuset with one processor of many."""
    now, rests = 0, []
    for _ in range(9):
        rest, now = rest_after_a_lost_yield(window, now)
        rests.append(rest)
    assert rests == sorted(rests)
    assert rests[0] <= 4 * MS
    assert 128 * MS <= rests[-1] <= 130 * MS


def test_long_rests_are_forgotten(window: PollWindow) -> None:
    now = 0
    for _ in range(9):
        _, now = rest_after_a_lost_yield(window, now)
    rest, _ = rest_after_a_lost_yield(window, serve(window, now, 300))
    assert rest <= 4 * MS


def test_a_rest_ends_only_when_the_crowd_has_gone(
    window: PollWindow, processors: FakeProcessors
) -> None:
    processors.crowded = True
    window.after_yield(window.begin(0), 0, 3 * MS)
    now = serve(window, 3 * MS, 1000)
    assert window.begin(now) == now


def test_it_closes_what_it_asks(window: PollWindow, processors: FakeProcessors) -> None:
    window.close()
    assert processors.closed
