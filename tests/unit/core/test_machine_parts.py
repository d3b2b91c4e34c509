from __future__ import annotations

import statistics

from hypothesis import given, settings
from hypothesis import strategies as st

from mrq.core.backoff import Backoff
from mrq.core.digest import MASK, consumed
from mrq.core.failures import CHARGES, Account
from mrq.core.jobs import Durations
from mrq.core.machine_config import MachineConfig
from mrq.core.machine_state import State, stable_hash
from mrq.core.model import Slots, StagedFile, Status, TaskResult
from mrq.core.refs import Kind, TaskRef
from mrq.core.tasks import TaskTable, pack_result, unpack_result
from mrq.core.transitions import History
from mrq.core.worker_table import Worker, Workers

U64 = st.integers(0, MASK)


def test_every_status_has_its_charge_and_a_row_in_the_docs():
    assert set(CHARGES) == set(Status)
    charged = {s for s, c in CHARGES.items() if c.account is Account.FAILURES}
    assert charged == {Status.FAILED, Status.TIMED_OUT}
    assert CHARGES[Status.LOST].account is Account.LOSSES
    assert CHARGES[Status.WORKER_LOST].account is Account.WORKER_LOSSES
    free = {Status.SUPERSEDED, Status.HANDED_BACK, Status.DISK_FULL, Status.FETCH_FAILED, Status.DONE}
    free |= {Status.UNLISTED, Status.PART_LOST}
    assert {s for s, c in CHARGES.items() if c.account is Account.NOTHING} == free


def test_consumed_is_the_same_in_every_process():
    # Stored in logs and records, and reported by workers of other versions: never to change.
    assert (consumed(0, 0), consumed(42, 12345)) == (0x48218226FF3CD4BF, 0x93DFDB0B85539B4A)


@given(a=st.tuples(st.integers(0, 99_999), U64), b=st.tuples(st.integers(0, 99_999), U64))
def test_consumed_tells_maps_and_digests_apart(a, b):
    assert 0 <= consumed(*a) <= MASK
    assert (consumed(*a) == consumed(*b)) == (a == b)


def test_swapped_digests_are_noticed_by_the_sum():
    right = (consumed(0, 7) + consumed(1, 9)) & MASK
    wrong = (consumed(0, 9) + consumed(1, 7)) & MASK
    assert right != wrong


@given(
    counters=st.dictionaries(st.text(), st.integers(-(1 << 80), 1 << 80)),
    digest=U64,
    sample=st.none() | st.binary(),
    seconds=st.floats(0, 1e6),
)
def test_a_packed_result_comes_back_as_it_was(counters, digest, sample, seconds):
    result = TaskResult(
        records_in=1,
        bytes_in=2,
        records_out=3,
        bytes_out=4,
        digest=digest,
        counters=counters,
        sample=sample,
        seconds=seconds,
        files=(StagedFile(name="a/b", final="b", records=1, bytes=2, crc32=3),),
        bad_records=2,
        peak_rss_bytes=1 << 40,
    )
    assert unpack_result(pack_result(result)) == result


@given(values=st.lists(st.floats(0, 1000), max_size=600))
@settings(max_examples=50)
def test_the_median_is_exact_while_the_sample_is_small_and_bounded_after(values):
    durations = Durations()
    for value in values:
        durations.add(value)
    assert len(durations.values) == min(len(values), 257)
    assert durations.values == sorted(durations.order)
    if 0 < len(values) <= 257:
        assert durations.median == statistics.median_high(values)
    if values:
        assert min(values) <= durations.median <= max(values)


@given(
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 3)), max_size=60),
)
def test_chains_of_completed_maps_are_sets(moves):
    table = TaskTable("j", 0, Kind.MAP, 10, History(), [0, 0, 0, 0])
    model: dict[int, int] = {}
    for add, index, boot in moves:
        if add and index not in model:
            table.link(index, boot)
            model[index] = boot
        elif not add and index in model:
            table.unlink(index)
            del model[index]
        for number in (1, 2, 3):
            assert list(table.held_by(number)) == sorted(i for i, b in model.items() if b == number)


def test_free_slots_respect_each_kind_and_the_shared_total():
    workers = Workers()
    worker = Worker(worker="w", boot="b", beat_at=0.0, slots=Slots(map=2, reduce=2, total=3))
    workers.all["w"] = worker
    workers.put_in(worker)
    assert (workers.free_slots(Kind.MAP), workers.free_slots(Kind.REDUCE)) == (2, 2)
    for i in range(2):
        workers.hold(worker, f"t{i}", TaskRef("j", 0, Kind.MAP, i))
    assert (workers.free_slots(Kind.MAP), workers.free_slots(Kind.REDUCE)) == (0, 1)
    workers.hold(worker, "t2", TaskRef("j", 0, Kind.REDUCE, 0))
    assert workers.pick(Kind.REDUCE, None) is None
    workers.release(worker, "t0")
    assert workers.pick(Kind.MAP, ["other"]) is worker
    assert workers.pick(Kind.MAP, ["w"]) is None


def test_jitter_depends_on_job_task_and_attempt_only():
    assert stable_hash("0/j/m-00001/1") != stable_hash("0/j/m-00001/2")
    assert stable_hash("a") == stable_hash("a")
    assert stable_hash("a") != stable_hash("a\0")
    state = State(MachineConfig(backoff=Backoff(base_s=1.0, max_s=8.0, least=0.5)))

    class _Spec:
        seed = 0

    class _Job:
        spec = _Spec()

    for retries in range(1, 60):
        wait = state.backoff(_Job(), "t", retries)  # type: ignore[arg-type]
        assert 0.5 * min(8.0, 2.0 ** (retries - 1)) <= wait <= min(8.0, 2.0 ** (retries - 1))
