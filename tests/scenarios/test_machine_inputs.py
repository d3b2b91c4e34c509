"""Inputs that are parts of a finished output: what the maps read is compared with its checksums before the
commit, as records are counted there."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import pytest
from machine_script import Script, spec
from test_machine_adopt import Kept, cut

from mrq.core import commands as c
from mrq.core import events as e
from mrq.core.model import JobState, Piece, Split, StageSpec, TaskState

PART = b"0123456789" * 10
HALVES = (PART[:60], PART[60:])
CRCS = tuple(map(zlib.crc32, HALVES))


def begun(reducers: int = 1) -> Kept:
    """Two maps that read a part, and one that reads something else."""
    s = Kept()
    s.join("w1", "w2")
    at = 0
    splits = []
    for index, half in enumerate(HALVES):
        piece = Piece(
            path="in/part-0", open="/in/part-0", start=at, length=len(half), size=len(PART), mtime_ns=1,
            crc32=zlib.crc32(PART),
        )  # fmt: skip
        splits.append(Split(index=index, pieces=(piece,)))
        at += len(half)
    other = Piece(path="x", open="/x", start=0, length=5, size=5, mtime_ns=1)
    splits.append(Split(index=2, pieces=(other,)))
    stages = (StageSpec(splits=tuple(splits), reducers=reducers),)
    s.do(e.JobSubmitted(spec=replace(spec(), stages=stages)))
    return s


def maps(s: Script, crcs: tuple[int, int] = CRCS, **result: Any) -> None:
    for index, crc in enumerate(crcs):
        s.done(s.claim(f"m{index}", "w1"), crcs=(crc,), **result)


def commits(s: Script) -> int:
    return len(s.of(c.StartCommit, s.log))


def reloaded(s: Kept) -> None:
    """Another leader, which goes on from what the store has."""
    cut(s, s.store)


@pytest.mark.parametrize("reducers", [0, 1])
def test_what_was_written_is_read(reducers: int) -> None:
    s = begun(reducers)
    maps(s)
    reloaded(s)
    s.run("m2", worker="w1")
    if reducers:
        s.run("r0", worker="w2")
    assert (s.state(), commits(s)) == (JobState.COMMITTING, 1)


@pytest.mark.parametrize("crcs", [(CRCS[0] ^ 1, CRCS[1]), (CRCS[0], 0), (CRCS[1], CRCS[0])])
@pytest.mark.parametrize("reducers", [0, 1])
@pytest.mark.parametrize("reload", [False, True])
def test_other_bytes_fail_the_job_before_its_commit(
    crcs: tuple[int, int], reducers: int, reload: bool
) -> None:
    s = begun(reducers)
    if reload:
        reloaded(s)
    maps(s, crcs)
    s.run("m2", worker="w1")
    if reload:
        reloaded(s)
    if reducers:
        s.run("r0", worker="w2")
    assert s.state() is JobState.FAILED
    assert s.error().startswith("in/part-0: its bytes aren't those that its job wrote")
    assert commits(s) == 0


def test_a_map_that_says_nothing_of_its_input_is_not_believed() -> None:
    s = begun()
    s.run("m0", "m1", "m2", worker="w1")
    s.run("r0", worker="w2")
    assert s.error().startswith("in/part-0")


def test_the_accepted_attempt_counts() -> None:
    s = begun()
    maps(s, (CRCS[0] ^ 1, CRCS[1]))
    s.workers["w1"].silent = True
    s.advance(60)  # its outputs are gone with it
    s.workers["w1"].silent = False
    s.reboot("w1")
    maps(s)
    s.run("m2", worker="w1")
    s.run("r0", worker="w2")
    assert (s.state(), commits(s)) == (JobState.COMMITTING, 1)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("reload", [False, True])
def test_a_retry_reads_again_what_was_damaged(changed: bool, reload: bool) -> None:
    s = begun()
    s.run("m2", worker="w1")
    maps(s, (CRCS[0] ^ 1, CRCS[1]))
    s.run("r0", worker="w2")
    assert s.state() is JobState.FAILED
    if reload:
        reloaded(s)
    s.do(e.RetryRequested(job="j"))
    assert s.state() is JobState.RUNNING
    assert s.is_("m2", TaskState.COMPLETED)
    assert sorted(s.published()) == ["m0", "m1"]
    if changed:  # what the reduce has read is no longer what the maps say
        maps(s, digest=77)
        s.run("r0", worker="w2")
    else:  # with that the whole part is right
        s.done(s.claim("m0", "w1"), crcs=CRCS[:1])
    assert (s.state(), commits(s)) == (JobState.COMMITTING, 1)


def test_a_retry_of_what_is_damaged_still_fails_again() -> None:
    s = begun(reducers=0)
    maps(s, (0, 0))
    s.run("m2", worker="w1")
    for _ in range(2):
        assert s.error().startswith("in/part-0")
        s.do(e.RetryRequested(job="j"))
        maps(s, (0, 0))
    assert commits(s) == 0
