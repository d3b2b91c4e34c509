"""Waits between tries: longer each time, within their bounds, and as the dice say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrq.core.backoff import AWAY, Backoff, Retry
from mrq.core.machine_state import dice

TIMES = st.floats(0.001, 1000.0)


@given(TIMES, TIMES, st.floats(0, 1), st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_within_its_bounds(base_s, max_s, least, failures, drawn):
    backoff = Backoff(base_s=base_s, max_s=max_s, least=least)
    whole = backoff.wait_s(failures, 1.0)
    assert whole <= max_s * (1 + 1e-9)
    assert whole <= backoff.wait_s(failures + 1, 1.0)
    assert least * whole * (1 - 1e-9) <= backoff.wait_s(failures, drawn) <= whole * (1 + 1e-9)


def test_waits_double_up_to_the_longest_and_begin_anew_when_it_worked():
    retry = Retry(Backoff(base_s=0.5, max_s=3.0), dice=lambda: 1.0)
    assert [retry.failed() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert retry.failures == 5
    retry.worked()
    assert (retry.failures, retry.failed()) == (0, 0.5)


def test_full_jitter_draws_from_nothing_on_and_a_least_share_is_waited():
    assert Backoff(base_s=2.0, max_s=8.0).wait_s(1, 0.0) == 0.0
    assert Backoff(base_s=2.0, max_s=8.0, least=0.5).wait_s(2, 0.0) == 2.0


def test_two_that_failed_together_are_not_tried_together():
    one, other = (Retry(AWAY, random.Random(seed).random) for seed in (1, 2))
    assert [one.failed() for _ in range(3)] != [other.failed() for _ in range(3)]
    assert Retry(AWAY, random.Random(1).random).failed() == Retry(AWAY, random.Random(1).random).failed()


@pytest.mark.parametrize("text", ["", "0/m-00001/1", "worker/boot/3", "数"])
def test_the_cores_dice_are_a_number_from_0_to_1_that_depends_on_the_text_alone(text):
    assert 0.0 <= dice(text) <= 1.0
    assert dice(text) == dice(text)
    assert dice(text) != dice(text + "x")
