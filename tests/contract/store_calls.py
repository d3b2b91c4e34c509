"""Random calls of a store, as hypothesis draws them, for `test_redis_like_claims` to make calls of, which are
mostly such as fit what is there."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mrq.core.model import JobState, MapLocation, Status, TaskMessage, WorkerHealth
from mrq.core.orders import Drain, DropJob, DropMaps, Kill, Notify, Offer, Order, Release, UploadLog
from mrq.core.refs import AttemptRef, Kind, TaskRef

Drawn = st.SearchStrategy[Any]

JOBS = st.sampled_from(["j", "k"])
KINDS = st.sampled_from(list(Kind))
INDEXES = st.integers(0, 1)
TASKS = st.tuples(KINDS, INDEXES)
REFS = st.builds(TaskRef, job=JOBS, stage=st.just(0), kind=KINDS, index=INDEXES)
WORKERS = st.sampled_from(["w1", "w2", "w3"])
TOKENS = st.sampled_from(["t1", "t2", "t3", "t4"])
SMALL = st.integers(1, 2)
BLOBS = st.none() | st.binary(max_size=3)
#: How old a boot is: the newest one, the one before, or one that is newer still.
BOOTS = st.sampled_from([0] * 14 + [1, -1])
#: How far ahead of the last one; mostly the next.
STEPS = st.sampled_from([1] * 8 + [0, 2])
#: Does it fit what is there?
FITS = st.sampled_from([True] * 7 + [False])

MESSAGES = st.builds(
    TaskMessage,
    task=REFS,
    ticket=SMALL,
    not_worker=st.sampled_from([None, None, None, "w1"]),
)
ATTEMPTS = st.builds(AttemptRef, task=REFS, ticket=SMALL, number=SMALL, token=TOKENS)
OUTPUTS = st.builds(
    TaskRef, job=JOBS, stage=st.sampled_from([0, 0, 12]), kind=st.just(Kind.MAP), index=st.integers(0, 3)
)
LOCATIONS = st.builds(
    MapLocation,
    attempt=st.builds(AttemptRef, task=OUTPUTS, ticket=SMALL, number=SMALL, token=TOKENS),
    worker=WORKERS,
    boot=st.just("b"),
    digest=st.sampled_from([0, 2**53 + 1, 2**64 - 1]),
    bytes=st.sampled_from([0, 2**62 + 1]),
)
NUMBER = st.just(0)
ORDERS: st.SearchStrategy[Order] = st.one_of(
    st.builds(Kill, token=TOKENS),
    st.builds(Offer, message=MESSAGES),
    st.builds(DropJob, job=JOBS),
    st.builds(DropMaps, job=JOBS, stage=SMALL),
    st.builds(Drain, reason=st.sampled_from(["", "ünfit \x00"])),
    st.builds(Release),
    st.builds(Notify, text=st.just("nobody ünswers")),
    st.builds(UploadLog, job=JOBS, log=st.just("m-00000.1.1.t1")),
)
SENT = st.lists(st.tuples(WORKERS, BOOTS, ORDERS), max_size=2)
#: What becomes of a role's ticket.
TICKETS = st.sampled_from(["same", "same", "new", "none"])
#: (task, primary's, backup's)
ROWS = st.lists(st.tuples(TASKS, TICKETS, TICKETS), max_size=3)
STATES = st.sampled_from([*[None] * 24, *[JobState.RUNNING] * 8, *JobState])
HEALTH = st.sampled_from([*[WorkerHealth.ALIVE] * 12, *WorkerHealth])
#: Which of the attempts that a worker holds or held a beat lists.
LISTED = st.sampled_from([(), (), (0,), (0, 1), (1, 2, 3)])


def _call(name: str, *parts: Drawn) -> Drawn:
    return st.tuples(st.just(name), *parts)


BEAT = _call(
    "beat",
    WORKERS,
    BOOTS,
    STEPS,
    LISTED,
    st.integers(0, 2),  # orders carried out
    st.sampled_from([*[False] * 15, True]),  # draining
    st.sampled_from([*[False] * 7, True]),  # with an address
)
CLAIM = _call(
    "claim",
    st.lists(st.tuples(MESSAGES, FITS, WORKERS, BOOTS, TOKENS, st.booleans(), FITS), min_size=1, max_size=3),
)
REPORT = _call(
    "report",
    st.none() | st.integers(0, 3),
    JOBS,
    ATTEMPTS,
    st.sampled_from([Status.DONE, Status.FAILED]),
)
WRITE = _call("write", JOBS, STEPS, STEPS, ROWS, STATES, st.lists(LOCATIONS, max_size=2), SENT, BLOBS)
RARE = st.one_of(
    _call("health", WORKERS, BOOTS, HEALTH, STEPS, SENT),
    _call("take", st.sampled_from(["j", "k", ""]), st.sampled_from([0, 1, 1]), st.sampled_from(["o", "x"])),
    _call("leave", WORKERS, BOOTS),
    _call("forget", JOBS),
    _call("restore", JOBS, st.sampled_from([0, 1, 1]), ROWS, st.lists(LOCATIONS, max_size=2), BLOBS),
    _call("open", st.integers(1, 3)),
)
#: Calls, and how many times each is made. (`one_of` would give each rare call the weight of a claim.)
WEIGHTED = st.sampled_from([*[BEAT] * 6, *[CLAIM] * 8, *[REPORT] * 4, *[WRITE] * 4, RARE]).flatmap(
    lambda s: s
)
CALLS = st.lists(st.tuples(WEIGHTED, st.sampled_from([1, 1, 1, 1, 2, 5])), min_size=25, max_size=60)
