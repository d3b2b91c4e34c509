"""Workers that are taken down by a task, storms of kills, and parts between stages that are lost.
`run.py --kind deadly`, `storm` and `chain` run more."""

from __future__ import annotations

from collections import Counter

import pytest
from sim_workers import check, world_of


def seen_in(kind: str, first: int, last: int) -> Counter[str]:
    """What struck in some seeds."""
    seen: Counter[str] = Counter()
    for seed in range(first, last):
        try:
            seen += check(kind, world_of(kind, seed).run()).faults_seen
        except Exception as exc:
            exc.add_note(f"replay with  python tests/simulation/run.py --kind {kind} --replay {seed}")
            raise
    return seen


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_a_task_that_takes_its_worker_down_ends_its_job_and_no_other(first: int) -> None:
    assert seen_in("deadly", first, first + 20)["taken down alone"] >= 50


def test_a_worker_that_dies_of_an_attempt_that_was_ended_beside_others_is_no_storm() -> None:
    """Eleven workers died: for 20 s no loss alone counted."""
    assert seen_in("deadly", 7320061, 7320062)["taken down alone"] >= 3


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_fifteen_kills_in_twenty_seconds_on_ten_workers_fail_no_good_job(first: int) -> None:
    assert seen_in("storm", first, first + 5)["killed"] >= 40


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_jobs_of_several_stages_get_done_though_parts_between_them_are_lost(first: int) -> None:
    seen = seen_in("chain", first, first + 50)
    assert seen["lost a part"] >= 200
    assert seen["part lost"] >= 50
