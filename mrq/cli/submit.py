"""`mrq submit`: from a checked command line to a result, and everything that is said on the way."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mrq.cli import errors, leftovers
from mrq.cli.clusters import noting
from mrq.cli.console import Console, print_json, shown
from mrq.cli.options import Options
from mrq.cli.signals import Signals
from mrq.cli.wording import in_flags
from mrq.errors import UsageError

if TYPE_CHECKING:
    from mrq.client import Plan, Request, Result
    from mrq.core.info import JobInfo
    from mrq.core.splits import InputFile
    from mrq.engine.engine import Engine
    from mrq.handle import Handle
    from mrq.job.base import Job

#: Between two looks at the job: how late a signal or its end may be noticed.
_LOOK_S: Final = 0.05
#: After a signal: how long the job may take to end by itself before the engine is closed over it.
_CANCEL_S: Final = 0.5


def run_class(cls: type[Job], argv: Sequence[str]) -> int:
    """`mrq.main`: submit this class with submit's flags; every word of `argv` is an input."""
    from mrq.cli.app import run as run_app

    return run_app(argv, job=cls)


@dataclass(slots=True)
class Told:
    """What `--json` will print: filled as the command goes on."""

    job: str | None = None
    name: str | None = None
    output: str | None = None
    notes: tuple[str, ...] = ()
    engine: str = "embedded"
    cluster: str | None = None  #: its name, without any password
    where: str = ""  #: what another command needs to find the same cluster: " --cluster prod"
    fate: str | None = None  #: what becomes of the job when a signal ends this command
    info: JobInfo | None = None  #: the job as it was seen last


def submit(
    options: Options, console: Console, signals: Signals, told: Told, *, job: type[Job] | None = None
) -> int:
    """Run what the options say, on this machine. Returns 0; raises what went wrong."""
    if options.detach:
        raise UsageError(
            "--detach leaves a job to its cluster; on this machine it would end with this command"
        )
    if options.dry_run:
        return _dry_run(options, console, told, job)
    keep = leftovers.keep_s()
    with engine_of(options.executors, console, signals, told) as engine:
        leftovers.tell_and_sweep(console, engine.root, keep=keep)
        stdin = standard_input(options, engine.private_folder, console)
        draft = engine.draft(request_of(options, stdin, job))
        spec = draft.spec
        told.job, told.name = spec.job, spec.name
        told.output = spec.output_open if spec.output is not None else None
        if options.verbose:
            plan, slots = engine.plan_draft(draft)
            say_plan(plan, console, executors=slots)
        result = run(lambda: engine.start_draft(draft), engine, console, signals, told)
        if options.output is None:
            from mrq.cli.cat import print_parts

            print_parts(result.output, spec.output_format)
        report(result, console, told, output=options.output, json=options.json, verbose=options.verbose)
    return errors.DONE


def _dry_run(options: Options, console: Console, told: Told, job: type[Job] | None) -> int:
    from mrq import config
    from mrq.client import plan as planned
    from mrq.commit import claim
    from mrq.io.temporary import PrivateFolder

    private = PrivateFolder(config.temp_root())
    try:
        stdin = standard_input(options, lambda: private.path, console)
        plan = planned(request_of(options, stdin, job))
    finally:
        private.close(keep=False)
    spec = plan.spec
    if spec.output_open is not None:
        inputs = [file.open for file in plan.files]
        claim.check(spec.output_open, spec.job, spec.overwrite, inputs=inputs, shown=spec.output)
    show_plan(plan, options, told, executors=options.executors)
    return errors.DONE


def show_plan(plan: Plan, options: Options, told: Told, *, executors: int) -> None:
    """Print what a dry run found, on standard output."""
    from mrq.cli import dryrun
    from mrq.cli.console import write_out

    told.job, told.name, told.output = plan.spec.job, plan.spec.name, plan.spec.output_open
    told.notes = plan.notes
    if options.json:
        print_json(dryrun.plan_object(plan, told, executors=executors))
    else:
        lines = dryrun.plan_lines(plan, executors=executors, every=options.verbose)
        write_out("".join(f"{shown(line)}\n" for line in lines).encode("utf-8", "backslashreplace"))


def say_plan(plan: Plan, console: Console, *, executors: int) -> None:
    """`-v`: what is about to run."""
    from mrq.cli import dryrun

    for line in dryrun.plan_lines(plan, executors=executors, listed_by="--dry-run -v"):
        console.line(line)


@contextlib.contextmanager
def engine_of(executors: int, console: Console, signals: Signals, told: Told) -> Iterator[Engine]:
    """An engine, whose executors start now; whatever happens, it is closed with nothing left behind."""
    debug = _debug_switch()
    with signals.noting():
        from mrq.engine.local import local_engine

        engine = local_engine(executors=executors, note=noting(console, told))
    try:
        signals.check()
        noun = "executor" if executors == 1 else "executors"
        console.line(f"embedded: {executors} {noun}, temporary files in {engine.root}")
        if debug:
            console.line(console.style(debug, "yellow"))
        yield engine
    finally:
        with signals.noting():
            engine.close(remove=True)


def _debug_switch() -> str:
    """What MRQ_DEBUG will do, for people; "" when it isn't set. Raises UsageError."""
    if not os.environ.get("MRQ_DEBUG"):
        return ""
    from mrq.worker import debug

    switch = debug.parse(os.environ)
    return str(switch) if switch is not None else ""


def standard_input(options: Options, folder: Callable[[], str], console: Console) -> InputFile | None:
    """Standard input as a file in `folder()`; None where no input is `-`."""
    if "-" not in options.inputs:
        return None
    from mrq.errors import InputError
    from mrq.io import inputs

    if sys.stdin is None:
        raise InputError("-: standard input is closed; pipe something in, or name files")
    if sys.stdin.isatty():
        console.line("reading standard input; end it with Ctrl-D")
    return inputs.spool(sys.stdin.buffer, folder())


def request_of(options: Options, stdin: InputFile | None, job: type[Job] | None) -> Request:
    """What the options ask of `mrq.client.plan`."""
    from mrq.client import Request

    overrides: dict[str, Any] = dict(options.overrides)
    overwrite = bool(overrides.pop("overwrite", False))
    return Request(
        ref=options.ref if job is None else job,
        inputs=options.inputs,
        output=options.output,
        typed=options.parameters,
        overrides=overrides,
        overwrite=overwrite,
        stdin=stdin,
    )


def run(
    start: Callable[[], Handle], engine: Engine, console: Console, signals: Signals, told: Told
) -> Result:
    """Start a job and see it to its end, showing how far it is. Raises Stopped after a signal."""
    from mrq.client import JobFailed

    def stop(handle: Handle) -> None:
        console.line("stopping (once more to kill at once)")
        handle.cancel()
        handle.wait(_CANCEL_S)

    with signals.noting():
        signals.check()
        handle = start()
        told.job = handle.job
        if os.environ.get("MRQ_TMP"):  # another shell may have another
            told.where = f" --from {shlex.quote(os.path.dirname(engine.root))}"
        try:
            watch(handle, console, signals, told, stop=stop)
            return handle.result(0)
        except JobFailed as exc:
            # Only what is still there can be gone on with.
            if not os.path.isdir(os.path.join(engine.root, "jobs", handle.job)):
                told.job = None
            raise exc


def watch(
    handle: Handle, console: Console, signals: Signals, told: Told, *, stop: Callable[[Handle], None]
) -> None:
    """Show the job's progress until it is over. After a signal, `stop` it, and raise Stopped unless it is
    done all the same."""
    try:
        if not handle.wait(_LOOK_S):
            _show(handle, console, signals, stop)
    finally:
        told.info = handle.view()


def _show(handle: Handle, console: Console, signals: Signals, stop: Callable[[Handle], None]) -> None:
    from mrq.cli.progress import Progress, stages_of

    progress = Progress(console)
    try:
        while not handle.wait(_LOOK_S):
            if signals.received is not None:
                progress.finish()
                stop(handle)
                if not handle.done() or not _succeeded(handle):
                    signals.check()
                return
            progress.update(stages_of(handle.view()))
        progress.last(stages_of(handle.view()))
    finally:
        progress.finish()


def _succeeded(handle: Handle) -> bool:
    """A job that is over: did it commit before the signal reached it?"""
    from mrq.errors import MrqError

    try:
        handle.result(0)
    except MrqError:
        return False
    return True


def report(
    result: Result, console: Console, told: Told, *, output: str | None, json: bool, verbose: bool
) -> None:
    """Say what a job that is done was. `output`: where its result lies, as typed; None: it was printed."""
    from mrq.cli.summary import counter_lines, print_summary

    parts = result.parts
    if json:
        from dataclasses import replace

        from mrq.cli.objects import Finished, head

        idle = tuple(in_flags(text) for text in result.summary.idle)
        summary = replace(result.summary, idle=idle)
        fields = {**head(told, "done"), "output": result.output}
        print_json(Finished(**fields, parts=tuple(parts), summary=summary))
    print_summary(console, result.summary, output=output, parts=len(parts))
    if result.counters and verbose:
        console.line("counters")
        for line in counter_lines(result.counters):
            console.line(line)
