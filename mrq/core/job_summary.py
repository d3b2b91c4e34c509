"""What a finished job did, in numbers: for the engine that ran it, whichever it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mrq.core.info import MAP, REDUCE, StageInfo
from mrq.core.model import JobSpec, TaskResult
from mrq.core.refs import Kind, TaskRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a finished job did, in numbers."""

    records_in: int  #: that maps read
    bytes_in: int  #: that maps read
    records_out: int  #: in the parts
    bytes_out: int  #: of the parts
    shuffled_records: int  #: that reduces read
    shuffled_bytes: int  #: that reduces read
    seconds: float  #: from the submit, or the retry, to the end
    maps: int  #: tasks
    reduces: int  #: tasks; 0 of a job of maps alone
    spills: int  #: sorted runs that were written to disks
    skew: float  #: the largest partition's records over their mean; 1.0 is even
    largest_partition: int | None  #: its number; null where there are no records or no partitions
    slowest_task: str | None  #: `m-00042`; null where there was no task
    slowest_seconds: float  #: how long that took
    bad_records: int  #: left out
    attempts_failed: int  #: or lost; each was run again
    peak_rss_bytes: int = 0  #: resident memory of the largest task's executor; 0 if unknown
    idle: tuple[str, ...] = ()  #: that cores had nothing to do, and what would use them; one sentence each


def map_results(results: Mapping[TaskRef, TaskResult]) -> list[tuple[int, TaskResult]]:
    """(map index, result) of the maps among `results`."""
    return [(task.index, result) for task, result in results.items() if task.kind is Kind.MAP]


def of_stages(last: Summary, stages: Sequence[StageInfo]) -> Summary:
    """The numbers of a job of several stages: of its last one, with what the others did."""
    if not stages or not stages[0].stage:
        return last
    maps = [stage for stage in stages if stage.name == MAP]
    reduces = [stage for stage in stages if stage.name == REDUCE]
    slowest = max(stages, key=lambda stage: stage.slowest_s)
    return replace(
        last,
        records_in=maps[0].records_in,
        bytes_in=maps[0].bytes_in,
        shuffled_records=sum(stage.records_in for stage in reduces),
        shuffled_bytes=sum(stage.bytes_in for stage in reduces),
        maps=sum(stage.total for stage in maps),
        reduces=sum(stage.total for stage in reduces),
        spills=sum(stage.spills for stage in stages),
        bad_records=sum(stage.bad_records for stage in stages),
        slowest_task=slowest.slowest,
        slowest_seconds=slowest.slowest_s,
    )


def summarize(
    spec: JobSpec, results: Mapping[TaskRef, TaskResult], seconds: float, attempts_failed: int
) -> Summary:
    """The numbers of a finished job of one stage, from its winners' results."""
    maps = [result for _, result in map_results(results)]
    reduces = {task.index: result for task, result in results.items() if task.kind is Kind.REDUCE}
    last = list(reduces.values()) if spec.reducers else maps
    shares = {index: result.records_in for index, result in reduces.items()}
    mean = sum(shares.values()) / len(shares) if shares else 0.0
    largest = max(shares, key=lambda index: shares[index]) if mean else None
    slowest = max(results, key=lambda task: results[task].seconds, default=None)
    return Summary(
        records_in=sum(result.records_in for result in maps),
        bytes_in=sum(result.bytes_in for result in maps),
        records_out=sum(result.records_out for result in last),
        bytes_out=sum(file.bytes for result in last for file in result.files),
        shuffled_records=sum(result.records_in for result in reduces.values()),
        shuffled_bytes=sum(result.bytes_in for result in reduces.values()),
        seconds=seconds,
        maps=len(maps),
        reduces=len(reduces),
        spills=sum(result.spills for result in results.values()),
        skew=shares[largest] / mean if largest is not None else 1.0,
        largest_partition=largest,
        slowest_task=str(slowest) if slowest is not None else None,
        slowest_seconds=results[slowest].seconds if slowest is not None else 0.0,
        bad_records=sum(result.bad_records for result in results.values()),
        attempts_failed=attempts_failed,
        peak_rss_bytes=max((result.peak_rss_bytes for result in results.values()), default=0),
    )
