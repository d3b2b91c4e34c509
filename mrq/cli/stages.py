"""From the leader's view of a job to the stages that the display shows. Pure."""

from __future__ import annotations

from mrq.cli.progress import Stage
from mrq.core.jobs import JobView, StageView
from mrq.core.model import JobState, Kind


def stages_of(view: JobView | None, job: str) -> list[Stage]:
    """Map, reduce and commit of `job`, or the one stage of the sampling that comes before it.

    Empty as long as there is nothing to show.
    """
    if view is None:
        return []
    if view.job != job:
        return [_stage("sample", view, view.maps, Kind.MAP)]
    stages = [_stage("map", view, view.maps, Kind.MAP)]
    if view.reduces.total:
        stages.append(_stage("reduce", view, view.reduces, Kind.REDUCE))
    if view.state in (JobState.COMMITTING, JobState.DONE):
        done = view.state is JobState.DONE
        stages.append(
            Stage(name="commit", total=1, done=int(done), running=int(not done), fraction=float(done))
        )
    return stages


def _stage(name: str, view: JobView, counts: StageView, kind: Kind) -> Stage:
    running, made, records, size = view.under_way(kind)
    made += counts.completed
    return Stage(
        name=name,
        total=counts.total,
        done=counts.completed,
        running=running,
        failed=sum(1 for error in view.errors if error.kind is kind),
        fraction=min(1.0, made / counts.total) if counts.total else 1.0,
        records=counts.records_in + records,
        bytes=counts.bytes_in + size,
    )
