"""A job that was started, seen to its end: its progress, what a signal does to it, and its result.

What a user sees of a cluster's job is what an embedded one shows. `mrq wait` and `mrq cancel` are here too.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mrq.cli import failure_text
from mrq.cli.console import write_out
from mrq.cli.session import Session
from mrq.cli.wording import in_flags
from mrq.errors import Interrupted, MrqError, OperatorError

if TYPE_CHECKING:
    from mrq.client import Result
    from mrq.engine.engine import Engine
    from mrq.handle import Handle

    #: What a signal does about a job that runs.
    Stop = Callable[[Session, Handle], None]

_LOG: Final = logging.getLogger(__name__)

#: Between two looks at the job: how late a signal or its end may be noticed.
_LOOK_S: Final = 0.05
#: After a signal: how long a job may take to be over. Then the engine on this machine is closed over it; a
#: cluster ends its job also if nobody waits.
_HERE_S: Final = 0.5
_CLUSTER_S: Final = 15.0


def attend(session: Session, start: Callable[[], Handle], stop: Stop) -> Result:
    """Start a job and see it to its end, showing how far it is. Raises Stopped after a signal."""
    with session.signals.noting():
        session.signals.check()
        session.fate = None
        handle = start()
        watch(session, handle, stop)
        return handle.result(0)


def watch(session: Session, handle: Handle, stop: Stop) -> None:
    """Show the job's progress until it is over. After a signal, `stop` it, and raise Stopped unless it is
    done all the same."""
    session.console.context["job"] = handle.job
    try:
        if not handle.wait(_LOOK_S):
            _show_progress(session, handle, stop)
    finally:
        session.info, session.notes = handle.view(), tuple(dict.fromkeys(handle.notes))


def _show_progress(session: Session, handle: Handle, stop: Stop) -> None:
    from mrq.cli.progress import Progress, stages_of

    progress = Progress(session.console)
    try:
        while not handle.wait(_LOOK_S):
            if session.signals.received is not None:
                progress.finish()
                stop(session, handle)
                if not handle.done() or _error_of(handle) is not None:
                    session.signals.check()
                return
            progress.update(stages_of(handle.view()))
        progress.last(stages_of(handle.view()))
    finally:
        progress.finish()


def _error_of(handle: Handle) -> MrqError | None:
    """Of a job that is over: why it isn't done."""
    try:
        handle.result(0)
    except MrqError as exc:
        return exc
    return None


def attend_here(session: Session, engine: Engine, start: Callable[[], Handle]) -> Result:
    """`attend` to a job on this machine, which ends with this command."""
    from mrq.client import JobFailed

    def started() -> Handle:
        handle = start()
        session.job = handle.job
        if os.environ.get("MRQ_TMP"):  # another shell may have another
            session.where = f" --from {shlex.quote(os.path.dirname(engine.root))}"
        return handle

    def stop(session: Session, handle: Handle) -> None:
        _LOG.info("stopping (once more to kill at once)")
        handle.cancel()
        handle.wait(_HERE_S)

    try:
        return attend(session, started, stop)
    except JobFailed:
        # Only what is still there can be gone on with.
        if not os.path.isdir(os.path.join(engine.root, "jobs", str(session.job))):
            session.job = None
        raise


def attend_on_cluster(session: Session, handle: Handle, *, cancel: bool = True) -> Result:
    """`attend` to a cluster's job. A signal cancels it, or leaves it alone; `session.fate` says which."""

    def stop(session: Session, handle: Handle) -> None:
        job = handle.job
        if not cancel:
            session.fate = f"job {job} goes on; `mrq cancel {job}{session.where}` ends it"
            return
        _LOG.info(f"cancelling {job} (once more to leave at once)")
        session.fate = f"job {job} was asked to end; `mrq status {job}{session.where}` shows when it has"
        try:
            handle.cancel()
        except OperatorError as exc:
            session.fate = f"job {job} goes on, since the cluster couldn't be told: {exc}"
            return
        if handle.wait(_CLUSTER_S) and isinstance(_error_of(handle), Interrupted):
            session.fate = f"job {job} is cancelled"

    return attend(session, lambda: handle, stop)


def leave(session: Session, handle: Handle) -> int:
    """`--detach`: the id on standard output, for scripts."""
    session.notes = tuple(dict.fromkeys(handle.notes))
    if session.json:
        from mrq.cli.objects import JsonAnswer

        session.answer(JsonAnswer, "submitted")
    else:
        write_out(f"{handle.job}\n".encode())
    _LOG.info(
        f"submitted; `mrq wait {handle.job}{session.where}` waits for it, "
        f"`mrq cancel {handle.job}{session.where}` ends it"
    )
    return failure_text.DONE


def report(session: Session, result: Result, output: str | None) -> None:
    """Print the result of a job that is done where it has no OUT, and say what the job was. `output`: where
    the result lies, as typed; None: it is printed."""
    from mrq.cli.summary import counter_lines, print_summary

    if result.is_private and not session.json:
        from mrq.cli.cat import print_parts

        print_parts(result.output, result.output_format)
    parts = result.parts
    if session.json:
        from dataclasses import replace

        from mrq.cli.objects import Finished

        idle = tuple(in_flags(text) for text in result.summary.idle)
        summary = replace(result.summary, idle=idle)
        session.answer(Finished, "done", output=result.output, parts=tuple(parts), summary=summary)
    stages = session.info.stages if session.info is not None else ()
    print_summary(result.summary, output=output, parts=len(parts), stages=stages)
    if result.counters and session.has("verbose"):
        _LOG.info("\n".join(["counters", *counter_lines(result.counters)]))


def wait(session: Session) -> int:
    """`mrq wait JOB`. Raises what became of the job, if that wasn't good."""
    (job,) = session.parsed.words
    session.refuse_local("wait")
    with session.on_cluster() as engine:
        session.job = job
        result = attend_on_cluster(session, engine.handle(job), cancel=False)
        session.output = None if result.is_private else result.output
        report(session, result, session.output)
    return failure_text.DONE


def cancel(session: Session) -> int:
    """`mrq cancel JOB`: 0 when it is cancelled, 1 when it had ended otherwise."""
    (job,) = session.parsed.words
    session.refuse_local("cancel")
    with session.on_cluster() as engine:
        session.job = job
        state = str(engine.ask("cancel", job=job, reason="cancelled by the user")["state"])
        if state not in ("done", "failed", "cancelled"):
            _LOG.info(f"asked {job} to end; it is {state}")
            handle = engine.handle(job)
            handle.wait(_CLUSTER_S)
            session.info = handle.view()
            state = handle.status().value
    code = failure_text.DONE if state == "cancelled" else failure_text.FAILED
    said = {"cancelled": "is cancelled", "done": "was done already", "failed": "had failed already"}
    how = said.get(state, f"is still {state}: `mrq status {job}` shows how far it is")
    _LOG.info(f"{job} {how}")
    if session.json:
        from mrq.cli.objects import JsonAnswer

        session.answer(JsonAnswer, state, code)
    return code
