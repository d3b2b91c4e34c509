"""What a finished job gives back: its output, counters and numbers; or why it failed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mrq.core.ending import JobEnd
from mrq.core.job_summary import Summary
from mrq.core.model import ErrorReport, JobSpec, StagedFile
from mrq.core.paths import named
from mrq.errors import JobError, OutputError, UsageError
from mrq.io.output import output_format

__all__ = ["JobFailed", "Result", "Summary"]

#: What a notebook shows of a result.
_HTML_ROWS: Final = 20
_HTML_CHARS: Final = 200


class JobFailed(JobError):
    """The job ran and failed. `errors` lists why, newest last; `job` is what `mrq retry` takes."""

    def __init__(self, message: str, *, job: str = "", errors: Sequence[ErrorReport] = ()) -> None:
        super().__init__(message)
        self.job = job
        self.errors: tuple[ErrorReport, ...] = tuple(errors)
        # Below the message a traceback shows the user's own frames, the record, where it lies, and the log.
        for error in self.errors[-1:]:
            if error.frames:
                self.add_note(error.frames.rstrip("\n"))
            if error.message not in message:
                self.add_note(f"  {error.type}: {error.message}")
            if error.record is not None:
                self.add_note(f"  record  {error.record}")
            if error.path is not None:
                at = f" at byte {error.offset:,}" if error.offset is not None else ""
                self.add_note(f"  where   {named(error.path)}{at}")
            if error.log_path:
                self.add_note(f"  log     {error.log_path}")


class Result:
    """A finished job's output. Iterating gives (key, value), part by part, read anew each time.

    A part whose bytes aren't those that the job wrote raises CorruptFileError, at its end at the latest."""

    def __init__(
        self, *, spec: JobSpec, counters: Mapping[str, int], summary: Summary, owner: object = None
    ) -> None:
        assert spec.output_open is not None
        self.job = spec.job
        self.output: str = spec.output_open  #: the absolute path of OUT
        self.counters = dict(counters)
        self.summary = summary
        self._spec = spec
        self._owner = owner  # a private output lives as long as its engine

    @classmethod
    def of(cls, end: JobEnd, spec: JobSpec, owner: object) -> Result:
        """The output of a job that is done, where `spec` says that it lies."""
        assert end.info is not None
        assert end.summary is not None
        return cls(spec=spec, counters=end.info.counters, summary=end.summary, owner=owner)

    @property
    def is_private(self) -> bool:
        """No output was named: it is removed with its engine, or with this object."""
        return self._spec.output is None

    @property
    def output_format(self) -> str:
        """`text`, `lines`, `jsonl` or `records`."""
        return self._spec.last.output_format

    @property
    def parts(self) -> list[str]:
        """Paths of the parts, in order. Raises OutputError when they are gone."""
        return [path for path, _ in self._parts()]

    def _parts(self) -> list[tuple[str, StagedFile]]:
        from mrq.commit.manifest import part_files

        if self.is_private and not os.path.isdir(self.output):
            raise OutputError(
                f"the result of {self.job} was removed with its engine; read it before the engine is closed, "
                "or give the run an output"
            )
        return part_files(self.output)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        fmt = output_format(self._spec.last.output_format, self._spec.last.compression)
        for path, file in self._parts():
            yield from fmt.read(path, file)

    def to_pandas(self) -> Any:
        """A DataFrame with columns key and value. Raises UsageError where pandas isn't installed."""
        try:
            import pandas
        except ImportError as exc:
            raise UsageError("to_pandas() needs pandas; install it: pip install pandas") from exc
        return pandas.DataFrame(list(self), columns=["key", "value"])

    def _repr_html_(self) -> str:
        """A table for notebooks: the first records, and where the rest lies."""
        from html import escape
        from itertools import islice

        rows = "".join(
            f"<tr><td>{escape(_brief(key))}</td><td>{escape(_brief(value))}</td></tr>"
            for key, value in islice(self, _HTML_ROWS)
        )
        return (
            f"<table><thead><tr><th>key</th><th>value</th></tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{self.summary.records_out:,} records of {escape(self.job)} in {escape(self.output)}</p>"
        )

    def __repr__(self) -> str:
        return f"<mrq.Result of {self.job}: {self.summary.records_out:,} records in {self.output}>"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _HTML_CHARS else f"{text[: _HTML_CHARS - 1]}…"
