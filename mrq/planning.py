"""From what the user typed to a job that can run. Nothing runs here.

`draft` does what needs the user's code: load and check the job, convert its parameters, build the bundle.
`complete` finds the inputs and cuts the splits, where the data is visible. `plan` is both, and does
everything that can refuse before anything starts. Engines take a `Draft`, which their leader completes
(`mrq.engine`).
"""

from __future__ import annotations

import os
import re
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from mrq.codec.types import carried, carried_key, utf8
from mrq.core.model import FOLLOWS, JobSpec, StagePlan, StageSpec
from mrq.core.pathmap import PathMap, split_pattern
from mrq.core.paths import is_url
from mrq.core.splits import SETUP_BYTES_MIN, SPLIT_BYTES_MIN, InputFile
from mrq.errors import JobDefinitionError, UsageTypeError, UsageValueError
from mrq.io.disk import working_folder
from mrq.io.formats import InputFormat, input_format
from mrq.io.output import output_format
from mrq.io.plan import Draft, DraftInput, Plan, complete, numbered, sample_of
from mrq.job import arguments, bundle, check, load, parameters, source
from mrq.job.base import Job, called, defined, parameter_values, title
from mrq.job.stages import overrides_of, said_of
from mrq.result import Result
from mrq.settings.checks import MEMORY_BYTES
from mrq.settings.job import JobSettings, resolve

__all__ = ["Draft", "Path", "Plan", "Request", "complete", "draft", "job_id", "keyed", "plan", "request_of"]

Path: TypeAlias = str | os.PathLike[str]
#: What text is read in unless a job says otherwise.
_UTF_8: Final = JobSettings().encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a submit says."""

    ref: str | type[Job] | Job  #: `file.py`, `file.py:Class`, `package.module:Class`, a class, an instance
    inputs: Sequence[str]
    output: str | None = None  #: None: private, removed with the engine
    parameters: Mapping[str, Any] = field(default_factory=dict)
    typed: Mapping[str, str] = field(default_factory=dict)  #: parameters as text, `--set`; the job converts
    overrides: Mapping[str, Any] = field(default_factory=dict)  #: settings by name
    overwrite: bool = False
    stdin: InputFile | None = None  #: standard input, put aside by `io.inputs.spool`


def plan(request: Request) -> Plan:
    """Check everything that can be checked before anything runs. Raises UsageError and its kind."""
    return complete(draft(request))


def draft(
    request: Request, paths: PathMap | None = None, *, defaults: Mapping[str, Any] | None = None
) -> Draft:
    """All that needs the user's code; `paths` say where the cluster opens what the user spells.

    `defaults` are settings by name that count where the job says nothing else.

    Raises UsageError and its kind.
    """
    working_folder()  # code and paths start there
    with source.ONE_BY_ONE:
        return _draft(request, paths, defaults or {})


def _draft(request: Request, paths: PathMap | None, defaults: Mapping[str, Any]) -> Draft:
    _refuse_paths(request)
    cls, given, loaded = _job_of(request)
    chosen = check.check(cls, request.overrides, defaults)
    typed = parameters.convert(cls, request.typed)
    values = parameters.values(cls, {**given, **request.parameters, **typed})
    stages = draft_stages(cls, values, request.overrides, defaults)
    in_format = input_format(stages[0].input_format)
    if chosen.as_of_now:
        _refuse_as_of_now(request, in_format)
    # A class names what lies beside its file, a flag or an argument what lies in the current folder.
    beside = working_folder() if "ship" in request.overrides else os.path.dirname(loaded.file)
    built = bundle.build(loaded, [os.path.abspath(os.path.join(beside, path)) for path in chosen.ship])
    spec = _spec_of(request, chosen, paths, cls.__name__, parameters=values, stages=stages, code=built)
    return Draft(
        spec=replace(spec, source_root=loaded.root),
        inputs=tuple(_input(spelled, request.stdin, paths) for spelled in request.inputs),
        cwd=working_folder(),
        splittable=in_format.splittable,
        all_files=chosen.all_files,
        allow_empty=chosen.allow_empty,
        as_of_now=chosen.as_of_now,
        code=built.data,
    )


def _spec_of(
    request: Request,
    chosen: JobSettings,
    paths: PathMap | None,
    name: str,
    *,
    parameters: Mapping[str, Any],
    stages: tuple[StageSpec, ...],
    code: bundle.Bundle,
) -> JobSpec:
    """The job of that name, as settings and the request say."""
    return JobSpec(
        job=job_id(name),
        name=name,
        code=code.digest,
        entry=code.entry,
        parameters=parameters,
        inputs=tuple(request.inputs),
        stages=stages,
        output=request.output,
        output_open=_opened(request.output, paths) if request.output is not None else None,
        overwrite=request.overwrite,
        memory_bytes=chosen.memory_bytes or MEMORY_BYTES,
        max_failures=chosen.max_failures or 1,
        max_losses=chosen.max_losses,
        max_worker_losses=chosen.max_worker_losses,
        backups=chosen.backups,
        skip_bad_records=chosen.skip_bad_records,
        progress_timeout_s=chosen.progress_timeout_s or 600.0,
        priority=chosen.priority,
        max_running=chosen.max_running,
        # Of task.rng: the same for the same code and parameters, so that a job run again is the same.
        seed=zlib.crc32(repr((code.digest, sorted(parameters.items(), key=lambda item: item[0]))).encode()),
        created_at=time.time(),
        claim=secrets.token_hex(8),
    )


def draft_stages(
    cls: type[Job],
    values: Mapping[str, Any],
    overrides: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> tuple[StageSpec, ...]:
    """The stages of a job that was checked, with those parameters: those of work, of which each that wants a
    total order has a sampling before it. Raises UsageError and its kind."""
    checked = check.check_stages(lambda: cls(**values), overrides, defaults)
    if not any(defined(each, "reduce") for each, _ in checked):
        _check_reducers(cls, resolve(cls, overrides, defaults), overrides)
    work = []
    for place, (each, settings) in enumerate(checked):
        arguments.check_values(each, values)
        own = overrides_of(each, overrides)
        work.append(
            StageSpec(
                splits=(),
                reducers=(settings.reducers or FOLLOWS) if defined(each, "reduce") else 0,
                number=place + 1 if len(checked) > 1 else 0,
                plan=StagePlan() if place == 0 else None,
                place=place,
                input_format=_checked_format(each, settings, own).name,
                output_format=settings.output_format or "text",
                compression=settings.compression,
                encoding=settings.encoding,
                refuses_marks="encoding" not in {**each.__mrq_settings__, **own},
                sort_values=settings.sort_values,
                can_skip=not defined(each, "map_split"),
                split_bytes=settings.split_bytes,
                split_bytes_min=SETUP_BYTES_MIN if defined(each, "setup") else SPLIT_BYTES_MIN,
                said=said_of(each),
            )
        )
    stages: list[StageSpec] = []
    for stage, (_, settings) in zip(work, checked, strict=True):
        if settings.order == "total" and stage.reducers != 1:
            stages.append(sample_of(stage))
            stage = replace(stage, plan=None)
        stages.append(stage)
    return numbered(stages)


def _checked_format(cls: type[Job], settings: JobSettings, overrides: Mapping[str, Any]) -> InputFormat:
    """The input format, if there are both, map_block gets lines of it, and an encoding is of text.

    Raises UsageError.
    """
    found = input_format(settings.input_format or "text")
    output_format(settings.output_format or "text", settings.compression)  # refuses an unknown one here
    if defined(cls, "map_block") and not found.lines:
        name = f"{cls.__name__}.{called(cls, 'map_block')}"
        raise UsageValueError(f"{name} takes lines of bytes; input format {found.name} has none")
    if found.name != "text" and settings.encoding != _UTF_8:
        named = overrides["encoding"] if "encoding" in overrides else cls.__mrq_settings__["encoding"]
        out = _left_out(cls, "encoding", overrides)
        if "encoding" not in overrides and "input_format" in overrides:
            out = f'give `encoding="{_UTF_8}"` too, for this run'
        raise UsageValueError(
            f"{title(cls)} has the encoding {named!r}, which only text is read in, and its input format is "
            f"{found.name}: {_NO_ENCODING[found.name]}; {out}"
        )
    return found


#: Of each input format that an encoding means nothing to, what map gets.
_NO_ENCODING: Final[Mapping[str, str]] = {
    "jsonl": "JSON is read in UTF-8 (lines in another encoding: read them with "
    '`input_format="text"`, and parse them in map)',
    "whole": "map gets the bytes of each file, and decodes them itself",
    "records": "map gets keys and values as they were written",
}


def _check_reducers(cls: type[Job], settings: JobSettings, overrides: Mapping[str, Any]) -> None:
    """Raise UsageError for a number of reducers where nothing is reduced."""
    if settings.reducers and not defined(cls, "reduce"):
        out = _left_out(cls, "reducers", overrides)
        raise UsageValueError(f"{cls.__name__} has no reduce: its parts are its maps' outputs; {out}")


def _left_out(cls: type[Job], name: str, overrides: Mapping[str, Any]) -> str:
    """What to do about a setting that means nothing here, where it was given."""
    if name not in overrides:
        of = cls.__mrq_stage__
        return f"leave {name} out of its {'Stage' if of is not None and name in of.settings else 'class'}"
    value = overrides[name]
    return f"leave out `{name}={value if isinstance(value, str) else repr(value)}`"


def _refuse_as_of_now(request: Request, form: InputFormat) -> None:
    """Raise UsageError for what has no last whole line of now."""
    if not form.lines:
        raise UsageValueError(
            f"`as_of_now=True` reads whole lines of files that are still written, and input format "
            f"{form.name} has none; leave it out"
        )
    for spelled in request.inputs:
        if spelled == "-":
            raise UsageValueError(
                "`as_of_now=True` is for files that are still written, and standard input is read to its "
                "end; leave it out"
            )
        if is_url(spelled):
            raise UsageValueError(
                f"{spelled}: `as_of_now=True` reads files on a disk, of which it can be told whether they "
                "grew or were replaced; leave it out, or give a path"
            )


def _refuse_paths(request: Request) -> None:
    """Raise UsageError for what can't be meant as INPUT or OUT, wherever it is."""
    if "" in request.inputs:
        raise UsageValueError(
            "'': INPUT is empty (an unset variable?); name a file, a folder, a glob or a URL"
        )
    if request.output == "":
        raise UsageValueError("'': OUT is empty; give a folder to make")
    for path in (*request.inputs, request.output or ""):
        try:
            impossible = b"\0" in os.fsencode(path)
        except UnicodeEncodeError:
            impossible = True
        if impossible:
            raise UsageValueError(
                f"{path!r}: no file can have this name, for a character in it stands for no byte"
            )
    if request.output is not None and is_url(request.output):
        raise UsageValueError(
            f"{request.output}: OUT is a folder, on a local or shared disk; URLs can be read, not written"
        )


def _input(spelled: str, stdin: InputFile | None, paths: PathMap | None) -> DraftInput:
    """One argument, and where it is opened."""
    if spelled == "-":
        return DraftInput(spelled="-", open=stdin.open if stdin is not None else "")
    if is_url(spelled):
        return DraftInput(spelled=spelled, open=spelled)
    return DraftInput(spelled=spelled, open=_opened(spelled, paths))


def _opened(spelled: str, paths: PathMap | None) -> str:
    """The absolute path, or pattern, that a spelled one is opened as."""
    if paths is None:
        return os.path.join(working_folder(), spelled)
    folder, pattern = split_pattern(spelled)
    here = os.path.abspath(folder)
    there = paths.to_cluster(here) or here
    return os.path.join(there, pattern) if pattern else there


def _job_of(request: Request) -> tuple[type[Job], dict[str, Any], load.LoadedJob]:
    """The class, the parameters that an instance carries, and where the code lies."""
    ref = request.ref
    if isinstance(ref, str):
        loaded = load.load_job(ref)
        return loaded.cls, {}, loaded
    if isinstance(ref, Job):
        cls = type(ref)
        return cls, parameter_values(ref), load.from_class(cls)
    if not (isinstance(ref, type) and issubclass(ref, Job)):
        raise JobDefinitionError(
            f"{ref!r} is not a job: give a class that derives from mrq.Job, an instance of one, "
            "or file.py:Class"
        )
    return ref, {}, load.from_class(ref)


def job_id(name: str) -> str:
    """A new id that begins with the job's name: `wordcount-6f1c2a9b`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "job"
    return f"{slug}-{secrets.token_hex(4)}"


def request_of(
    job: Job | type[Job] | str,
    inputs: Sequence[Path] | Result | None,
    output: Path | None,
    *,
    records: Iterable[Any] | None,
    overwrite: bool,
    overrides: Mapping[str, Any],
    folder: str,
) -> Request:
    """A `Request` from the arguments of `mrq.run`; records are put aside in `folder`."""
    options = dict(overrides)
    if not isinstance(overwrite, bool):
        raise UsageTypeError(f"overwrite must be True or False, not {overwrite!r}")
    if (inputs is None) == (records is None):
        raise UsageTypeError("give inputs or records=[…], and not both")
    if records is not None:
        if "input_format" in options:
            raise UsageTypeError("records=[…] are given to map as they are; leave out `input_format`")
        path = os.path.join(folder, f"records-{secrets.token_hex(4)}.records")
        pairs = list(keyed(iterable(records, "records", "[line, line]")))
        writer = output_format("records").open(path)
        writer.write([key for key, _ in pairs], [value for _, value in pairs])
        writer.close()
        paths: Sequence[str] = [path]
        _read_as(options, "records")
    elif isinstance(inputs, Result):
        paths = inputs.parts or [inputs.output]
        if "input_format" not in options:
            _read_as(options, inputs.output_format)
        if not inputs.parts:  # a result of 0 records is an input
            options.setdefault("allow_empty", True)
    elif isinstance(inputs, (str, bytes, os.PathLike)):
        raise UsageTypeError(f"inputs is a list of paths: inputs=[{os.fspath(inputs)!r}]")
    else:
        paths = [_path(path) for path in iterable(inputs, "inputs", '["logs/*.gz"]')]
        if not paths:
            raise UsageValueError(
                "inputs is empty; name files, folders, globs or URLs in it, or give records=[…]: "
                "records=[] runs the job over nothing"
            )
    if output is None:
        options.setdefault("output_format", "records")
    out = _path(output) if output is not None else None
    return Request(ref=job, inputs=paths, output=out, overrides=options, overwrite=overwrite)


def _read_as(options: dict[str, Any], name: str) -> None:
    """Read what mrq itself has written, whatever the class says of its files: their encoding too."""
    options["input_format"] = name
    if name != "text":
        options.setdefault("encoding", _UTF_8)


def iterable(given: Any, what: str, such: str) -> Any:
    """What can be gone through item by item. Raises UsageTypeError for anything else, also for what gives
    parts of itself: letters, the names of a dict, a table's columns."""
    table = type(given).__name__ == "DataFrame"
    if isinstance(given, str | bytes | bytearray | memoryview):
        shown = given if len(given) <= 60 else given[:60]
        raise UsageTypeError(f"{what} is a list, such as {what}={such}, and not one text: {what}=[{shown!r}]")
    if isinstance(given, Mapping) or table:
        instead = '.to_dict("records")' if table else ".items() or .values()"
        raise UsageTypeError(
            f"{what} is a list, such as {what}={such}, and of a {type(given).__name__} it would be the names "
            f"alone: give its {instead}"
        )
    if not isinstance(given, Iterable):
        raise UsageTypeError(f"{what} is a list, such as {what}={such}, not {given!r}")
    return given


def _path(given: Path) -> str:
    """A path as text. Raises UsageTypeError for what is none."""
    if not isinstance(path := os.fspath(given) if isinstance(given, os.PathLike) else given, str):
        raise UsageTypeError(f"{given!r} is not a path: paths are text or os.PathLike")
    return path


def keyed(records: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """(key, value) of each: tuples of two as they are, others under their position in a text file, in bytes.

    Each as it was when it came: a generator may refill what it has yielded. Raises DataError.
    """
    at = 0
    for record in records:
        if isinstance(record, tuple) and len(record) == 2:
            yield carried_key(record[0]), carried(record[1])
        else:
            yield at, carried(record)
            line = utf8(record, key=False) if isinstance(record, str) else record
            at += 1 + (len(line) if isinstance(line, bytes) else 0)
