"""`run_attempt`: one attempt of one task, whatever the user's code does."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from mrq.core.model import Outcome, Purpose, Status, TaskResult
from mrq.core.refs import Kind
from mrq.errors import CorruptFileError, InputError, JobError, MrqError
from mrq.job.base import HOOKS, Job, defined, title
from mrq.shuffle.bounded import Quota
from mrq.worker import folders
from mrq.worker.attempt_order import AttemptOrder
from mrq.worker.tasks import failure
from mrq.worker.tasks.attempt import Attempt
from mrq.worker.tasks.values import called, check_nothing


def run_attempt(
    order: AttemptOrder,
    job: Job,
    page: memoryview[int],
    quota: Quota | None = None,
    *,
    raised: Callable[[BaseException], object] = lambda exc: None,
) -> Outcome:
    """Run one map, reduce or sampling map. Never raises for what user code did.

    `page` is the progress page as `worker.progress_page.open_page` gives it; `quota` bounds runs and map
    outputs. The outcome is DONE with a result, FAILED with the user's error, DISK_FULL, FETCH_FAILED with the
    map outputs that can't be read, or LOST where a folder of the worker's own is. `raised` is told what user
    code raised.
    """
    attempt = Attempt(order, job, page, quota)
    try:
        result = run_task(attempt)
    except failure.UnreadableMapOutput as exc:
        attempt.discard()
        why = folders.lost(order, None)
        if why is not None:  # not the map's output: what was fetched of it
            return folders.outcome(why)
        return Outcome(status=Status.FETCH_FAILED, fetch_failures=exc.failures, error=exc.error)
    except BaseException as exc:  # noqa: BLE001 SystemExit and KeyboardInterrupt of user code too
        raised(exc)
        outcome = _failed(attempt, exc)
        attempt.discard()
        return outcome
    return Outcome(status=Status.DONE, result=result)


def run_task(attempt: Attempt) -> TaskResult:
    """The attempt's work itself. Raises whatever user code raises, FetchFailed and MrqErrors."""
    started = time.perf_counter()
    _forget_peak()
    with _no_collections():
        result = _run(attempt)
    return replace(result, seconds=time.perf_counter() - started, peak_rss_bytes=peak_rss_bytes())


def _run(attempt: Attempt) -> TaskResult:
    # What one kind of task needs, the others don't pay for: imports count in a tiny job.
    job, cls = attempt.job, type(attempt.job)
    if defined(cls, "setup"):
        _call_alone(attempt, "setup")
        _refuse_hooks(job)
    try:
        result = _run_task(attempt)
    except BaseException:
        if defined(cls, "teardown"):
            with suppress(Exception):  # the first error is the one to show
                job.teardown()  # type: ignore[attr-defined]
        raise
    if defined(cls, "teardown"):
        _call_alone(attempt, "teardown")
        # It may have counted.
        result = replace(result, counters=attempt.counters())
    return result


def _refuse_hooks(job: Job) -> None:
    """Raise JobError for a method that setup has given the job and nothing calls: its class has none."""
    for name in HOOKS:
        if callable(vars(job).get(name)) and not defined(type(job), name):
            raise JobError(
                f"setup assigned self.{name}, and nothing calls that: methods are those of the class; define "
                f"{name} in {type(job).__name__}, or choose another name"
            )
    of = type(job).__mrq_stage__
    for hook, name in of.names.items() if of is not None else ():
        if name in vars(job):
            raise JobError(
                f"setup assigned self.{name}, which {title(type(job))} has as its {hook}: stages are made of "
                "the class's methods at submit; choose another name"
            )


def _call_alone(attempt: Attempt, name: str) -> None:
    """Call setup or teardown. Raises what it raises, DataError for what it gives back."""
    attempt.doing = name
    check_nothing(called(getattr(attempt.job, name), name), name)
    attempt.doing = None


def _run_task(attempt: Attempt) -> TaskResult:
    if attempt.order.task.kind is Kind.REDUCE:
        from mrq.worker.tasks.reducer import run_reduce

        try:
            return run_reduce(attempt)
        except RecursionError as exc:
            raise failure.too_deep(exc) or exc from None
    if attempt.stage.purpose is Purpose.SAMPLE:
        from mrq.worker.tasks.sampler import run_sample

        return run_sample(attempt)
    from mrq.worker.tasks.mapper import run_map

    return run_map(attempt)


def _part_lost(attempt: Attempt, exc: BaseException) -> bool:
    """Is it that what an earlier stage wrote for this one can't be read? Where its folder isn't seen at all,
    that is this machine's affair."""
    split = attempt.order.split
    if not attempt.stage.reads_parts or split is None or not isinstance(exc, (InputError, CorruptFileError)):
        return False
    if not any(piece.path in str(exc) for piece in split.pieces):
        return False
    return attempt.spec.staging is None or os.path.isdir(attempt.spec.staging)


def _failed(attempt: Attempt, exc: BaseException) -> Outcome:
    if not failure.disk_full(exc):
        why = folders.lost(attempt.order, exc, _code_of(attempt.job))
        if why is not None:
            return folders.outcome(why)
    if _part_lost(attempt, exc):
        return Outcome(status=Status.PART_LOST, error=failure.report(exc))
    try:
        at = attempt.record()
    except Exception:  # noqa: BLE001 without a record the error is still an error
        at = None
    if failure.disk_full(exc):
        status = Status.DISK_FULL
        message = failure.full_disk_message(exc, attempt.order.scratch)
    else:
        status, message = Status.FAILED, None
    doing = attempt.doing
    if doing is None and at is not None:
        if at.path is None:
            doing = failure.group_named(at.key)
        elif attempt.stage.place:  # its key isn't where it lies in a file, but what the stage before gave
            doing = failure.shortened((at.key, at.value))
    error = replace(
        failure.report(exc, record=doing, at=at),
        peak_rss_bytes=peak_rss_bytes(),
        can_skip=attempt.spec.can_skip,
    )
    damage = _damage(attempt, at)
    if damage:
        error = replace(error, message=f"{error.message}; {damage}")
    if not error.frames and not isinstance(exc, InputError):  # which is no method's answer
        error = replace(
            error, frames=failure.method_at_fault(type(attempt.job), attempt.order.task.kind, error.message)
        )
    return Outcome(status=status, error=error if message is None else replace(error, message=message))


def _code_of(job: Job) -> str:
    """The file of a job's class, where that was unpacked by its worker; "" where it is the user's own."""
    file = str(getattr(sys.modules.get(type(job).__module__), "__file__", None) or "")
    return file if f"{os.sep}code{os.sep}" in file else ""


def _damage(attempt: Attempt, at: failure.Record | None) -> str:
    """What is wrong with the file of the record at hand, where that is part of a finished output; "" for
    nothing: then the error is the job's own."""
    split = attempt.order.split
    for piece in split.pieces if split is not None and at is not None else ():
        if piece.crc32 is not None and at is not None and piece.path == at.path:
            from mrq.io.finished import damaged
            from mrq.io.streams import Reading

            with suppress(MrqError):
                whole = replace(piece, start=0, length=piece.size)
                return "" if Reading().crcs([whole]) == (piece.crc32,) else damaged(piece.path)
    return ""


@contextmanager
def _no_collections() -> Iterator[None]:
    """No automatic garbage collection: it would visit every list of values over and over.

    Young garbage is collected by `Attempt.tick`.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def peak_rss_bytes() -> int:
    """This process's peak resident memory, since `_forget_peak` where the kernel allows that; 0 if unknown.

    Not `ru_maxrss`: that begins with what the parent had when it started this process.
    """
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:
            return int(file.read(1 << 16).partition(b"VmHWM:")[2].split(None, 1)[0]) << 10
    except (OSError, ValueError, IndexError):
        return 0


def _forget_peak() -> None:
    with suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as file:
        file.write(b"5")
