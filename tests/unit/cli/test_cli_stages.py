"""From the machine's own view of a job to what is shown."""

from mrq.cli.stages import stages_of
from mrq.core import events as e
from mrq.core.machine import Machine
from mrq.core.machine_config import MachineConfig
from mrq.core.model import JobSpec, JobState, Piece, Split


def spec(**more):
    piece = Piece(path="a", open="/a", start=0, length=10, size=10, mtime_ns=1)
    values = {
        "job": "j-1",
        "name": "J",
        "code": "0" * 64,
        "entry": "j:J",
        "parameters": {},
        "inputs": ("a",),
        "splits": tuple(Split(index=i, pieces=(piece,)) for i in range(3)),
        "reducers": 2,
        "input_format": "text",
        "output_format": "text",
    }
    return JobSpec(**{**values, **more})


def view_of(job):
    machine = Machine(MachineConfig.for_embedded())
    machine.handle(e.JobSubmitted(spec=job), 1.0)
    return machine.job(job.job)


def test_a_new_job_has_both_stages_before_it():
    map_, reduce = stages_of(view_of(spec()), "j-1")
    assert (map_.name, map_.total, map_.done, map_.running, map_.fraction) == ("map", 3, 0, 0, 0.0)
    assert (reduce.name, reduce.total) == ("reduce", 2)


def test_a_map_only_job_has_no_reduce():
    assert [stage.name for stage in stages_of(view_of(spec(reducers=0)), "j-1")] == ["map"]


def test_sampling_is_a_stage_of_its_own():
    assert [stage.name for stage in stages_of(view_of(spec(job="j-1-s", reducers=0)), "j-1")] == ["sample"]


def test_the_commit_is_shown_while_it_runs():
    import dataclasses

    view = dataclasses.replace(view_of(spec()), state=JobState.COMMITTING)
    commit = stages_of(view, "j-1")[-1]
    assert (commit.name, commit.done, commit.running) == ("commit", 0, 1)
    done = stages_of(dataclasses.replace(view, state=JobState.DONE), "j-1")[-1]
    assert done.complete


def test_nothing_is_shown_of_nothing():
    assert stages_of(None, "j-1") == []
