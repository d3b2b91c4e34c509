"""Records that were skipped: kept beside the output, for eyes and to be read in again.

`OUT/_bad/m-00042.jsonl` says of each where it was and what was raised; `OUT/_bad/m-00042.records` holds
the same records, typed, for `--input-format records 'OUT/_bad/*.records'`.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mrq.codec.columns import encode_column
from mrq.codec.types import shown
from mrq.core.model import ErrorReport
from mrq.errors import DataError
from mrq.io.output import PartInfo, PartWriter, output_format
from mrq.io.render import json_text, text

#: Of a record's text in the file for eyes; the other one holds it whole.
_SHOWN_MAX = 10_000


def _for_eyes(value: Any) -> str:
    """As text, cut; what has none, as Python shows it."""
    try:
        return text(value)[:_SHOWN_MAX]
    except DataError:
        return shown(value, _SHOWN_MAX)


class BadRecords:
    """Collects one attempt's skipped records in a folder of its own; makes no file before the first."""

    def __init__(self, folder: str, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._writers: dict[str, PartWriter] = {}  #: by suffix

    def add(self, *, path: str, offset: int | None, key: Any, value: Any, error: ErrorReport) -> None:
        """Keep one; a value that can't be carried as JSON, in bytes. Raises DiskFullError, OutputError."""
        if not self._writers:
            # One line of JSON in each record's value: a `lines` part.
            for suffix, form in ((".jsonl", "lines"), (".records", "records")):
                path_made = os.path.join(self._folder, self._stem + suffix)
                self._writers[suffix] = output_format(form).open(path_made)
        row = {
            "path": path,
            "offset": offset,
            "key": _for_eyes(key),
            "value": _for_eyes(value),
            "error": error.type,
            "message": error.message,
            "traceback": error.frames,
        }
        self._writers[".jsonl"].write([None], [json.dumps(row)])
        try:
            encode_column([value])
        except DataError:  # such as a lone surrogate, which JSON's escapes can say
            value = _as_json(value)
        self._writers[".records"].write([key], [value])

    def close(self) -> list[tuple[str, PartInfo]]:
        """(file name, what it holds) of the files made, on the disk now; none without bad records."""
        return [(self._stem + suffix, writer.close()) for suffix, writer in self._writers.items()]

    def discard(self) -> None:
        """Remove what was written."""
        for writer in self._writers.values():
            writer.discard()


def _as_json(value: Any) -> bytes:
    """What can't be carried, as the text that JSON has for it, or Python."""
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json_text(value).encode("utf-8", "backslashreplace")
    except DataError:
        return shown(value, _SHOWN_MAX).encode("utf-8", "backslashreplace")
