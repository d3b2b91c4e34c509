"""A job's folder that was removed stays removed, whoever begins to work in it at that moment."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mrq.core import paths
from mrq.core.model import FOLLOWS, JobSpec, Needs, Purpose, Split, StagePlan, StageSpec, TaskMessage
from mrq.core.persistence import plan_record
from mrq.core.refs import AttemptRef, Kind, TaskRef
from mrq.core.store_api import Batch, Fence
from mrq.core.store_rows import plan_key
from mrq.errors import OperatorError
from mrq.job import bundle
from mrq.servers.memory.store import MemoryStore
from mrq.worker.code_cache import CodeCache
from mrq.worker.job_files import FetchedJob, JobFiles

FENCE = Fence(incarnation=1, epoch=1, owner="o", seq=0)


def files(root: Path, *, makes: bool, **more: Any) -> JobFiles:
    source = root / "job.py"
    source.write_text("import mrq\n")
    code = bundle.pack({"job.py": str(source)})
    spec = JobSpec(
        job="j",
        name="J",
        code=hashlib.sha256(code).hexdigest(),
        entry="job:J",
        parameters={},
        inputs=(),
        stages=(StageSpec(splits=(), reducers=1),),
    )
    store = MemoryStore()
    store.begin(replace(spec, **more), code, FENCE)
    return JobFiles(
        root=str(root), store=store, codes=CodeCache(f"{root}/code", dropped=lambda folder: None), makes=makes
    )


def test_a_worker_makes_its_own(tmp_path: Path) -> None:
    mine = files(tmp_path, makes=True)
    found = mine.find("j", 0)
    assert isinstance(found, FetchedJob)
    assert mine.add(found)
    assert Path(paths.job_folder(str(tmp_path), "j"), "scratch").is_dir()


def test_an_engines_agent_makes_none_and_takes_a_job_without_one_for_over(tmp_path: Path) -> None:
    engines = files(tmp_path, makes=False)
    assert engines.find("j", 0) is None
    folder = Path(paths.job_folder(str(tmp_path), "j"))
    folder.mkdir(parents=True)
    found = engines.find("j", 0)
    assert found is not None
    folder.rmdir()  # between the look and what follows from it
    assert engines.add(found)
    assert not folder.exists()


def test_a_job_is_looked_up_again_where_another_plan_of_a_stage_is_known(tmp_path: Path) -> None:
    """A leader that came after a store's loss may have planned the stage anew."""
    sample = StageSpec(splits=(), reducers=0, purpose=Purpose.SAMPLE, number=1)
    work = StageSpec(splits=(Split(index=0, pieces=()),), reducers=2, plan=None)
    mine = files(tmp_path, makes=True, stages=(sample, work))
    message = TaskMessage(task=TaskRef("j", 0, Kind.MAP, 0), ticket=1)
    attempt = AttemptRef(message.task, 1, 1, "t")
    for seq, key in enumerate("xy", 1):
        plan = StagePlan(boundaries=(key,))
        message = replace(message, plan=plan.checksum)
        if seq == 1:
            look_up(mine)
        assert not mine.ready(message)
        with pytest.raises(OperatorError, match="isn't in the store any more"):
            mine.order(message, attempt)
        records = ((plan_key(0), plan_record(plan)),)
        mine.store.write(Batch(job="j", fence=replace(FENCE, seq=seq), records=records))  # type: ignore[attr-defined]
        look_up(mine)
        assert mine.ready(message)
        order, _ = mine.order(message, attempt)
        assert order.spec.stage(0).boundaries == (key,)
        assert order.spec.stage(0).splits == ()
        assert order.split == work.splits[0]


def test_each_run_of_a_stage_has_its_plan_and_its_own_map_outputs(tmp_path: Path) -> None:
    """The job has begun again once: its second stage's second run reads other parts."""
    first = StageSpec(splits=(Split(index=0, pieces=()),), reducers=1, number=1)
    second = StageSpec(splits=(), reducers=FOLLOWS, number=2, plan=None, place=1)
    mine = files(tmp_path, makes=True, stages=(first, second))
    look_up(mine)
    plan = StagePlan(splits=tuple(Split(index=i, pieces=()) for i in range(3)), reducers=5)
    message = TaskMessage(task=TaskRef("j", 4, Kind.MAP, 2), ticket=1, plan=plan.checksum)
    assert not mine.ready(message)
    mine.store.write(  # type: ignore[attr-defined]
        Batch(job="j", fence=replace(FENCE, seq=1), records=((plan_key(4), plan_record(plan)),))
    )
    look_up(mine, 4)
    assert mine.ready(message)
    assert mine.maps(message) == 3
    order, _ = mine.order(message, AttemptRef(message.task, 1, 1, "t"))
    stage = order.spec.stage(4)
    assert (stage.number, stage.reducers, stage.reads_parts, stage.splits) == (2, 5, True, ())
    assert (order.maps, order.split) == (3, Split(index=2, pieces=()))
    assert order.output_path.endswith("/maps/m4-00002.1.1.t")
    again = TaskMessage(task=TaskRef("j", 3, Kind.MAP, 0), ticket=1)
    assert mine.ready(again), "what the first stage reads is in the spec"


def test_map_outputs_of_stages_that_are_complete_go(tmp_path: Path) -> None:
    mine = files(tmp_path, makes=True)
    look_up(mine)
    folder = Path(paths.job_folder(str(tmp_path), "j"), "maps")
    names = ["m1-00000.1.1.a", "m1-00001.2.1.b", "m2-00000.1.1.c", "m10-00000.1.1.d", "other"]
    for name in names:
        (folder / name).write_bytes(b"x")
    mine.drop_maps("j", 2)
    assert sorted(path.name for path in folder.iterdir()) == ["m10-00000.1.1.d", "other"]
    mine.drop_maps("k", 2)  # of a job that isn't known


def look_up(files: JobFiles, stage: int = 0) -> None:
    found = files.find("j", stage)
    assert found is not None
    assert files.add(found)


def test_limits_of_a_retry_come_with_its_messages(tmp_path: Path) -> None:
    mine = files(tmp_path, makes=True)
    found = mine.find("j", 0)
    assert found is not None
    mine.add(found)
    message = TaskMessage(task=TaskRef("j", 0, Kind.REDUCE, 0), ticket=1)
    attempt = AttemptRef(message.task, 1, 1, "t")

    def spec(message: TaskMessage) -> JobSpec:
        return mine.order(message, attempt, ())[0].spec

    before = spec(message)
    assert spec(message) is before
    other = replace(message, skip_bad_records=7, needs=Needs(memory_bytes=99 << 20))
    assert (spec(other).skip_bad_records, spec(other).memory_bytes) == (7, 99 << 20)
    assert spec(other) is spec(other)  # made once: it is packed once too
