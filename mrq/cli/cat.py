"""`mrq cat OUT` and `mrq show OUT`: a result as it lies on the disk, and what is known of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mrq.cli import failure_text, units
from mrq.cli.console import print_json, shown, write_lines, write_out
from mrq.cli.session import Session
from mrq.commit.manifest import Manifest, dump_manifest, part_files, read_manifest
from mrq.core.model import Piece, StagedFile
from mrq.io.output import check_whole, whole_file
from mrq.io.streams import ByteSource, Reading

_CHUNK: Final = 1 << 20
#: A part up to so many bytes is read twice, so that nothing is printed of a damaged one.
_CHECKED_FIRST: Final = 64 << 20


def cat(session: Session) -> int:
    """Print a result. Raises OutputError where OUT isn't one, InputError or CorruptFileError where a part
    isn't what its job wrote, BrokenPipeError when nobody reads on."""
    (out,) = session.parsed.words
    print_parts(out, read_manifest(out).format)
    return failure_text.DONE


def print_parts(out: str, output_format: str) -> None:
    """The parts of OUT one after another on standard output: bytes as they are, uncompressed; records as
    text.

    Nothing is printed unless all parts are there with their sizes, and nothing of a part that fails its
    checksum, unless it is a large one: of such the checksum is known at its end.
    """
    put = _print_records if output_format == "records" else _print_bytes
    pieces = [whole_file(path, file) for path, file in part_files(out)]
    for piece in pieces:
        reading = Reading()
        if piece.size <= _CHECKED_FIRST:
            check_whole(piece, Reading())
        put(piece, reading)
        check_whole(piece, reading)


def _print_bytes(piece: Piece, reading: Reading) -> None:
    with ByteSource(piece, reading) as source:
        while data := source.read(_CHUNK):
            write_out(data)


def _print_records(piece: Piece, reading: Reading) -> None:
    """Typed records as the text format would have written them."""
    from mrq.io.output import _text as encode_text
    from mrq.io.records import read_piece

    for _, block in read_piece(piece, reading=reading):
        write_out(encode_text(*block.columns()))


def show(session: Session) -> int:
    """Print a result's manifest: for people, or as it is with `--json`. Raises OutputError."""
    (out,) = session.parsed.words
    manifest = read_manifest(out)
    if session.json:
        from json import loads

        print_json(loads(dump_manifest(manifest)))
    else:
        write_lines(map(shown, manifest_lines(manifest)))
    return failure_text.DONE


def manifest_lines(manifest: Manifest) -> list[str]:
    """A manifest for people: the job, then its parameters, counters and parts."""
    records, size = manifest.records, manifest.bytes
    finished = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.finished_at))
    packed = f", {manifest.compression}" if manifest.compression else ""
    lines = [
        f"job        {manifest.job} ({manifest.name}), by mrq {manifest.version}",
        f"finished   {finished}, after "
        f"{units.duration(max(0.0, manifest.finished_at - manifest.started_at))}",
        f"code       {manifest.code}",
        f"inputs     {' '.join(manifest.inputs)}: {units.plural(manifest.input_files, 'file')}, "
        f"{units.size(manifest.input_bytes)}",
        f"result     {units.plural(records, 'record')}, {units.size(size)}, {manifest.format}{packed}",
    ]
    lines += _table("parameters", manifest.parameters) + _table("counters", manifest.counters)
    lines += _stages(manifest.stages)
    lines += _files(f"parts ({len(manifest.parts):,})", manifest.parts)
    # Of the files with bad records: each record is in two, for eyes and to be read again.
    bad, files = manifest.bad, units.plural(len(manifest.bad), "file")
    records = sum(file.records for file in bad if file.final.endswith(".jsonl"))
    return lines + _files(f"bad records ({records:,}, in {files})", bad)


def _stages(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the maps and the reduces of each of several stages did."""
    width = max((len(f"{row['name']} {row['stage']}") for row in rows), default=0)
    lines = []
    for row in rows:
        label, tasks = f"{row['name']} {row['stage']}", units.plural(row["total"], "task")
        records = f"{units.plural(row['records_in'], 'record')} in, {row['records_out']:,} out"
        lines.append(f"  {label:<{width}}  {tasks}, {records}")
    return ["stages", *lines] if lines else []


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    lines = [f"  {name:<{width}}  {_plain(value)}" for name, value in values.items()]
    return [title, *lines] if lines else []


def _files(title: str, files: Sequence[StagedFile]) -> list[str]:
    width = max((len(file.final) for file in files), default=0)
    lines = [
        f"  {file.final:<{width}}  {units.plural(file.records, 'record')}, {units.size(file.bytes)}, "
        f"crc32 {file.crc32:08x}"
        for file in files
    ]
    return [title, *lines] if lines else []


def _plain(value: Any) -> str:
    from json import dumps

    return value if isinstance(value, str) else dumps(value, ensure_ascii=False)
