"""A worker is dialled once at a time, however often the machine asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mrq.core import commands as c
from mrq.core import events as e
from mrq.master.term import Dials

ONE = c.DialWorker(worker="w1", boot="b", address="h:1")
TWO = c.DialWorker(worker="w2", boot="b", address="h:2")


def reachable(asked: c.DialWorker) -> e.Event:
    return e.WorkerDialled(worker=asked.worker, boot=asked.boot)


def test_what_waits_for_its_turn_is_not_asked_for_again() -> None:
    waiting: list[Callable[[], None]] = []
    told: list[e.Event] = []
    dials = Dials(reachable, waiting.append, told.append)
    for asked in (ONE, TWO, ONE, ONE):
        dials.ask(asked)
    assert len(waiting) == 2
    for work in waiting:
        work()
    assert told == [reachable(ONE), reachable(TWO)]
    dials.ask(ONE)
    assert len(waiting) == 3


def test_a_bug_in_a_dial_does_not_keep_the_next_from_being_made() -> None:
    waiting: list[Callable[[], None]] = []

    def broken(asked: c.DialWorker) -> e.Event:
        raise ZeroDivisionError

    dials = Dials(broken, waiting.append, lambda event: None)
    dials.ask(ONE)
    with pytest.raises(ZeroDivisionError):
        waiting.pop()()
    dials.ask(ONE)
    assert len(waiting) == 1
