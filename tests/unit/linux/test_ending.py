"""What a command had begun is undone, whatever ends it, and no signal interrupts that."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import ending
from fuseswap.linux.ending import Terminated, Undo

ASKING = (signal.SIGTERM, signal.SIGHUP)


def fail_with(exc: BaseException, *steps: Callable[[], object]) -> None:
    with Undo() as undo:
        for step in steps:
            undo.add(step)
        raise exc


@pytest.fixture(autouse=True)
def as_a_process_begins() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ASKING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_raises_like_ctrl_c(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, ending.raised():
        os.kill(os.getpid(), number)
    assert ending.number_of(caught.value) == number
    assert signal.getsignal(number) is signal.SIG_DFL
    assert ending.number_of(KeyboardInterrupt()) == signal.SIGINT


def test_one_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with ending.raised(), ending.held():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_held_comes_after(number: signal.Signals) -> None:
    done = []

    def block() -> None:
        with ending.raised():
            with ending.held():
                os.kill(os.getpid(), number)
                done.append("the block")
            done.append("nothing behind it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the block"]


def test_steps_are_taken_back_from_the_last() -> None:
    done: list[str] = []
    with pytest.raises(HostError, match="no"):
        fail_with(HostError("no"), lambda: done.append("first"), lambda: done.append("second"))
    assert done == ["second", "first"]


def test_what_ends_well_stays() -> None:
    done: list[str] = []
    with Undo() as undo:
        undo.add(lambda: done.append("first"))
    assert not done


def test_a_step_that_fails_keeps_no_other_back_and_is_told() -> None:
    done: list[str] = []

    def fail() -> None:
        raise HostError("the loop device is busy")

    with pytest.raises(Terminated) as caught:
        fail_with(Terminated(signal.SIGTERM), lambda: done.append("first"), fail)
    assert done == ["first"]
    assert caught.value.__notes__ == ["not undone: the loop device is busy"]


def test_no_signal_interrupts_the_way_back() -> None:
    done: list[str] = []

    def again() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("to its end")

    with pytest.raises(KeyboardInterrupt) as caught, ending.raised():
        fail_with(KeyboardInterrupt(), again)
    assert done == ["to its end"]
    assert not isinstance(caught.value, Terminated)
