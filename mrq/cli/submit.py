"""`mrq submit`: from a checked command line to a result, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mrq.cli import attend, failure_text, leftovers
from mrq.cli.console import shown, write_lines
from mrq.cli.session import Session
from mrq.errors import OperatorError, UsageError
from mrq.settings.variables import keep_s, temp_root

if TYPE_CHECKING:
    from mrq.client import Plan, Request, Result
    from mrq.engine.engine import Engine
    from mrq.io.plan import Draft
    from mrq.job.base import Job

_LOG: Final = logging.getLogger(__name__)


def run_class(cls: type[Job], argv: Sequence[str]) -> int:
    """`mrq.main`: submit this class with submit's flags; every word of `argv` is an input."""
    from mrq.cli.app import run as run_app

    return run_app(argv, job=cls)


def submit(session: Session, request: Request) -> int:
    """Run what is asked for where it is meant to run. Returns 0; raises what went wrong."""
    return (_submit_here if session.is_local() else _submit_to_cluster)(session, request)


def _submit_here(session: Session, request: Request) -> int:
    if session.has("detach"):
        raise UsageError(
            "--detach leaves a job to its cluster; on this machine it would end with this command"
        )
    if session.has("dry_run"):
        return _dry_run(session, request)
    from mrq import native

    keep = keep_s()
    with session.on_this_machine() as engine:
        leftovers.tell_and_sweep(engine.root, keep=keep)
        draft = engine.draft(_spooled(request, engine.private_folder))
        spec = draft.spec
        session.job, session.name = spec.job, spec.name
        session.output = spec.output_open if spec.output is not None else None
        if session.has("verbose"):
            plan, slots = engine.plan_draft(draft)
            _say_plan(plan, slots)
            _LOG.info("data path   %s", native.told())
        result = attend.attend_here(session, engine, lambda: engine.start_draft(draft))
        attend.report(session, result, request.output)
    return failure_text.DONE


def _submit_to_cluster(session: Session, request: Request) -> int:
    with session.on_cluster() as engine:
        draft = engine.draft(_spooled(request, engine.private_folder))
        spec = draft.spec
        if "executors" in session.parsed.given:  # so many tasks at once, or fewer where that is said too
            most = session.executors()
            spec = replace(spec, max_running=min(most, spec.max_running or most))
            draft = replace(draft, spec=spec)
        session.name, session.output = spec.name, spec.output
        if session.has("dry_run") or session.has("verbose"):
            plan, slots = engine.plan_draft(draft)
            slots = min(slots, spec.max_running or slots)
            if session.has("dry_run"):
                return _show_plan(session, plan, slots)
            _say_plan(plan, slots)
        result = _run_on_cluster(session, engine, draft)
        if result is not None:
            attend.report(session, result, request.output)
    return failure_text.DONE


def _run_on_cluster(session: Session, engine: Engine, draft: Draft) -> Result | None:
    """The result of a job, waited for; None where it was left to its cluster."""
    job, handle, detach = draft.spec.job, None, session.has("detach")
    session.fate = taken_back = f"job {job} was taken back"
    try:
        handle = engine.start_draft(draft, wait=not detach)
        session.job = job  # only now there is a job that can be asked about
        if detach:
            session.fate = None
            attend.leave(session, handle)
            return None
        return attend.attend_on_cluster(session, handle)
    except BaseException:
        if session.signals.received is not None and handle is not None and session.fate == taken_back:
            with contextlib.suppress(OperatorError):  # it came before the job was attended to
                handle.cancel()
        session.signals.check()  # a library that it interrupted may have raised something else
        raise


def _dry_run(session: Session, request: Request) -> int:
    """What a submit on this machine would do, without an engine."""
    from mrq.client import plan as planned
    from mrq.commit import claim
    from mrq.io.temporary import PrivateFolder

    private = PrivateFolder(temp_root())
    try:
        plan = planned(_spooled(request, lambda: private.path))
    finally:
        private.close(keep=False)
    spec = plan.spec
    if spec.output_open is not None:
        inputs = [file.open for file in plan.files]
        claim.check(spec.output_open, spec.job, spec.overwrite, inputs=inputs, shown=spec.output)
    return _show_plan(session, plan, session.executors())


def _show_plan(session: Session, plan: Plan, executors: int) -> int:
    """Print what a dry run found, on standard output."""
    from mrq.cli import dryrun

    session.job, session.name, session.output = plan.spec.job, plan.spec.name, plan.spec.output_open
    session.notes = plan.notes
    if session.json:
        dryrun.print_plan(session, plan, executors=executors)
    else:
        lines = dryrun.plan_lines(plan, executors=executors, every=session.has("verbose"))
        write_lines(map(shown, lines))
    return failure_text.DONE


def _say_plan(plan: Plan, executors: int) -> None:
    """`-v`: what is about to run."""
    from mrq.cli import dryrun

    _LOG.info("\n".join(dryrun.plan_lines(plan, executors=executors, listed_by="--dry-run -v")))


def _spooled(request: Request, folder: Callable[[], str]) -> Request:
    """The request, with standard input put aside in `folder()` where it is an input."""
    if "-" not in request.inputs:
        return request
    from mrq.errors import InputError
    from mrq.io import inputs

    if sys.stdin is None:
        raise InputError("-: standard input is closed; pipe something in, or name files")
    if sys.stdin.isatty():
        _LOG.info("reading standard input; end it with Ctrl-D")
    return replace(request, stdin=inputs.spool(sys.stdin.buffer, folder()))
