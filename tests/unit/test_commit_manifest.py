"""The manifest of a finished output, as its file has it."""

from __future__ import annotations

import json

import pytest

from mrq.commit.manifest import Manifest, dump_manifest, parse_manifest
from mrq.core.model import StagedFile
from mrq.errors import CorruptFileError

FILES = (StagedFile(name="attempts/a/part-00000", final="part-00000", records=2, bytes=4, crc32=5),)


def manifest(job: str = "j1", **more: object) -> Manifest:
    fields: dict[str, object] = {
        "job": job, "name": "Test", "code": "abc", "parameters": {"x": (1, b"\xff", {2: 3})},
        "inputs": ("a",), "input_files": 1, "input_bytes": 2,
        "format": "text", "compression": "gz", "reducers": 1,
        "counters": {"n": 1}, "parts": FILES, "started_at": 1.5, "finished_at": 2.5, "version": "0.1",
    }  # fmt: skip
    return Manifest(**{**fields, **more})  # type: ignore[arg-type]


def test_the_manifest_is_json_and_comes_back() -> None:
    data = dump_manifest(manifest())
    raw = json.loads(data)
    assert raw["mrq_manifest"] == 1
    assert raw["records"] == 2
    assert raw["parts"] == [
        {"name": "part-00000", "records": 2, "bytes": 4, "crc32": 5, "staged": "attempts/a/part-00000"}
    ]
    found = parse_manifest(data)
    assert found.parts == FILES
    assert found.parameters == {"x": [1, "\udcff", {"2": 3}]}
    assert dump_manifest(found) == data
    assert b'"parts": []' in dump_manifest(manifest(parts=()))


def test_its_text_is_this_to_the_byte() -> None:
    """`_SUCCESS` is read by other programs, and an output is known by the sum of its bytes."""
    assert dump_manifest(manifest(displaces="manifest:00")).decode() == (
        '{"mrq_manifest": 1,\n "job": "j1",\n "name": "Test",\n "code": "abc",\n'
        ' "parameters": {"x": [1, "\\udcff", {"2": 3}]},\n "inputs": ["a"],\n "input_files": 1,\n'
        ' "input_bytes": 2,\n "format": "text",\n "compression": "gz",\n "reducers": 1,\n'
        ' "counters": {"n": 1},\n "records": 2,\n "bytes": 4,\n "displaces": "manifest:00",\n'
        ' "started_at": 1.5,\n "finished_at": 2.5,\n "version": "0.1",\n "parts": [\n'
        '  {"name": "part-00000", "records": 2, "bytes": 4, "crc32": 5, "staged": "attempts/a/part-00000"}\n'
        ' ],\n "bad": []}\n'
    )


@pytest.mark.parametrize("missing", ["job", "compression", "displaces", "parts", "bad", "version"])
def test_a_field_that_is_missing_is_refused(missing: str) -> None:
    raw = json.loads(dump_manifest(manifest()))
    del raw[missing]
    with pytest.raises(CorruptFileError, match=f"KeyError: '{missing}'"):
        parse_manifest(json.dumps(raw).encode())


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_manifest_cannot_point_outside(name: str) -> None:
    raw = json.loads(dump_manifest(manifest()))
    for field in ("name", "staged"):
        broken = json.loads(json.dumps(raw))
        broken["parts"][0][field] = name
        with pytest.raises(CorruptFileError):
            parse_manifest(json.dumps(broken).encode())
