"""`mrq submit`, `wait`, `retry` and `cancel` on a cluster: what a user sees is what embedded jobs show."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mrq.cli import errors
from mrq.cli.clusters import refuse_local, remote_of
from mrq.cli.console import Console, print_json, write_out
from mrq.cli.flags import Parsed
from mrq.cli.options import Options, limits_of
from mrq.cli.signals import Signals
from mrq.cli.submit import Told, report, request_of, say_plan, show_plan, standard_input, watch
from mrq.errors import Interrupted, MrqError, OperatorError, UsageError
from mrq.remote.ask import retried

if TYPE_CHECKING:
    from mrq.engine.engine import Engine
    from mrq.handle import Handle
    from mrq.io.plan import Draft
    from mrq.job.base import Job
    from mrq.result import Result

#: After a signal: how long a job may take to be over. The cluster ends it also if nobody waits.
_CANCEL_S: Final = 15.0


def submit(
    options: Options,
    parsed: Parsed,
    console: Console,
    signals: Signals,
    told: Told,
    *,
    job: type[Job] | None = None,
) -> int:
    """Run what the options say on the cluster that they mean. Returns 0; raises what went wrong."""
    with remote_of(parsed, console, told) as engine:
        stdin = standard_input(options, engine.private_folder, console)
        draft = engine.draft(request_of(options, stdin, job))
        if "executors" in parsed.values:
            draft = _capped(draft, options.executors)
        spec = draft.spec
        told.name, told.output = spec.name, spec.output
        if options.dry_run or options.verbose:
            plan, slots = engine.plan_draft(draft)
            slots = min(slots, spec.max_running or slots)
            if options.dry_run:
                show_plan(plan, options, told, executors=slots)
                return errors.DONE
            say_plan(plan, console, executors=slots)
        told.fate = taken_back = f"job {spec.job} was taken back"
        handle = None
        try:
            handle = engine.start_draft(draft, wait=not options.detach)
            told.job = spec.job  # only now there is a job that can be asked about
            if options.detach:
                told.fate = None
                return _left(handle, console, told, json=options.json)
            result = _attended(handle, console, signals, told)
        except BaseException:
            if signals.received is not None and handle is not None and told.fate == taken_back:
                with contextlib.suppress(OperatorError):  # it came before the job was attended to
                    handle.cancel()
            signals.check()  # a library that it interrupted may have raised something else
            raise
        _show(result, console, told, output=options.output, json=options.json, verbose=options.verbose)
    return errors.DONE


def _capped(draft: Draft, executors: int) -> Draft:
    """`-j`: so many tasks of the job at once, or fewer where that is said too."""
    spec = draft.spec
    return replace(draft, spec=replace(spec, max_running=min(executors, spec.max_running or executors)))


def _left(handle: Handle, console: Console, told: Told, *, json: bool) -> int:
    """`--detach`: the id on standard output, for scripts."""
    if json:
        from mrq.cli.objects import Answer, head

        print_json(Answer(**head(told, "submitted")))
    else:
        write_out(f"{handle.job}\n".encode())
    console.line(
        f"submitted; `mrq wait {handle.job}{told.where}` waits for it, "
        f"`mrq cancel {handle.job}{told.where}` ends it"
    )
    return errors.DONE


def wait(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """`mrq wait JOB`. Raises what became of the job, if that wasn't good."""
    job = _one_job(parsed, "wait")
    refuse_local(parsed, "wait")
    with remote_of(parsed, console, told) as engine:
        told.job = job
        result = _attended(engine.handle(job), console, signals, told, cancel=False)
        _show_as(parsed, result, console, told)
    return errors.DONE


def retry(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """`mrq retry JOB` of a cluster's job. Raises what became of it, if that wasn't good."""
    job = _one_job(parsed, "retry")
    if "executors" in parsed.values:
        raise UsageError(
            "-j is for a retry on this machine; a cluster's job keeps what it was submitted with"
        )
    if "from" in parsed.values:
        raise UsageError("--from is for a retry on this machine; a cluster keeps its jobs in its store")
    with remote_of(parsed, console, told) as engine:
        told.job = job
        engine.ask("retry", job=job, **retried(limits_of(parsed)))
        detach = "detach" in parsed.switches
        handle = engine.handle(job)
        if detach:
            return _left(handle, console, told, json="json" in parsed.switches)
        result = _attended(handle, console, signals, told)
        _show_as(parsed, result, console, told)
    return errors.DONE


def cancel(parsed: Parsed, console: Console, signals: Signals, told: Told) -> int:
    """`mrq cancel JOB`: 0 when it is cancelled, 1 when it had ended otherwise."""
    job = _one_job(parsed, "cancel")
    refuse_local(parsed, "cancel")
    with remote_of(parsed, console, told) as engine:
        told.job = job
        state = str(engine.ask("cancel", job=job, reason="cancelled by the user")["state"])
        if state not in ("done", "failed", "cancelled"):
            console.line(f"asked {job} to end; it is {state}")
            state = _end_of(engine, job, told)
    code = errors.DONE if state == "cancelled" else errors.FAILED
    said = {"cancelled": "is cancelled", "done": "was done already", "failed": "had failed already"}
    console.line(f"{job} {said.get(state, f'is still {state}: `mrq status {job}` shows how far it is')}")
    if "json" in parsed.switches:
        from mrq.cli.objects import Answer, head

        print_json(Answer(**head(told, state, code)))
    return code


def _end_of(engine: Engine, job: str, told: Told) -> str:
    """The state of a job that was asked to end, once it has; or as it is after a while."""
    handle = engine.handle(job)
    handle.wait(_CANCEL_S)
    told.info = handle.view()
    return handle.status().value


def _attended(
    handle: Handle, console: Console, signals: Signals, told: Told, *, cancel: bool = True
) -> Result:
    """See a job to its end. A signal cancels it, or leaves it alone; told.fate says which."""

    def stop(handle: Handle) -> None:
        if not cancel:
            told.fate = f"job {handle.job} goes on; `mrq cancel {handle.job}{told.where}` ends it"
            return
        console.line(f"cancelling {handle.job} (once more to leave at once)")
        told.fate = (
            f"job {handle.job} was asked to end; `mrq status {handle.job}{told.where}` shows when it has"
        )
        try:
            handle.cancel()
        except OperatorError as exc:
            told.fate = f"job {handle.job} goes on, since the cluster couldn't be told: {exc}"
            return
        if handle.wait(_CANCEL_S) and _is_cancelled(handle):
            told.fate = f"job {handle.job} is cancelled"

    with signals.noting():
        signals.check()
        told.fate = None
        watch(handle, console, signals, told, stop=stop)
        return handle.result(0)


def _is_cancelled(handle: Handle) -> bool:
    try:
        handle.result(0)
    except Interrupted:
        return True
    except MrqError:
        return False
    return False


def _show_as(parsed: Parsed, result: Result, console: Console, told: Told) -> None:
    told.output = None if result.is_private else result.output
    _show(
        result,
        console,
        told,
        output=told.output,
        json="json" in parsed.switches,
        verbose="verbose" in parsed.switches,
    )


def _show(
    result: Result, console: Console, told: Told, *, output: str | None, json: bool, verbose: bool
) -> None:
    """The result, where it has no OUT, and what the job was."""
    if result.is_private and not json:
        from mrq.cli.cat import print_parts

        print_parts(result.output, result.output_format)
    report(result, console, told, output=output, json=json, verbose=verbose)


def _one_job(parsed: Parsed, command: str) -> str:
    if len(parsed.words) != 1:
        raise UsageError(f"mrq {command} takes one JOB; {len(parsed.words)} are given; `mrq jobs` lists them")
    return parsed.words[0]
