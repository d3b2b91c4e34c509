"""A finished output as an input: what its manifest says is checked before anything runs."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import mrq
from mrq.commit.manifest import Manifest, dump_manifest
from mrq.core.model import StagedFile
from mrq.core.splits import InputFile
from mrq.errors import InputError
from mrq.io import finished
from mrq.planning import Plan, Request, plan

PARTS = {f"part-{n:05d}": b"".join(b"%d line\n" % i for i in range(n * 100, n * 100 + 50)) for n in range(4)}


class Lines(mrq.Job):
    """Every line."""

    def map(self, key: int, line: str) -> Iterator[tuple[None, str]]:
        yield None, line


def write(folder: Path, parts: dict[str, bytes] = PARTS, bad: dict[str, bytes] | None = None) -> Path:
    """A finished output."""
    folder.mkdir(parents=True)

    def row(name: str, data: bytes) -> StagedFile:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        return StagedFile(name=f"a/{name}", final=name, records=1, bytes=len(data), crc32=zlib.crc32(data))

    manifest = Manifest(
        job="words-1", name="Words", code="ab", parameters={}, inputs=("x",), input_files=1, input_bytes=1,
        format="text", compression=None, reducers=4, counters={},
        parts=tuple(row(name, data) for name, data in parts.items()),
        bad=tuple(row(name, data) for name, data in (bad or {}).items()),
    )  # fmt: skip
    (folder / "_SUCCESS").write_bytes(dump_manifest(manifest))
    return folder


def planned(*args: str, **overrides: Any) -> Plan:
    return plan(Request(ref=Lines, inputs=args, output="/nowhere/out", overrides=overrides))


#: How an output is given, from the folder that has it as `outs/out`: (what, all of it is meant).
WAYS: dict[str, tuple[Callable[[Path], list[str]], bool]] = {
    "folder": (lambda at: [str(at / "outs/out")], True),
    "folder with a slash": (lambda at: [str(at / "outs/out/")], True),
    "relative": (lambda at: [os.path.relpath(at / "outs/out")], True),
    "its parent": (lambda at: [str(at)], True),
    "glob of parts": (lambda at: [str(at / "outs/out/part-*")], True),
    "glob of the folder": (lambda at: [str(at / "outs/o*")], True),
    "glob over folders": (lambda at: [str(at / "out?/out/*")], True),
    "two stars": (lambda at: [str(at / "**/part-*")], True),
    "two stars alone": (lambda at: [str(at / "outs/**")], True),
    "through a link": (lambda at: [str(at / "link")], True),
    "twice": (lambda at: [str(at / "outs/out"), str(at / "link")], True),
    "by URL": (lambda at: [f"file://{at}/outs/out"], True),
    "glob by URL": (lambda at: [f"file://{at}/outs/out/part-*"], True),
    "parts": (lambda at: sorted(str(path) for path in (at / "outs/out").glob("part-*")), False),
    "parts by URL": (
        lambda at: [f"file://{path}" for path in sorted((at / "outs/out").glob("part-*"))],
        False,
    ),
    "glob of others": (lambda at: [str(at / "outs/out/part-0000[13]")], False),
}


@pytest.fixture(params=WAYS)
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[], list[str]], bool]:
    out = write(tmp_path / "outs/out")
    (tmp_path / "link").symlink_to("outs/out")
    make, whole = WAYS[request.param]
    return out, lambda: make(tmp_path), whole


def test_its_parts_are_marked_with_their_checksums(given: Any) -> None:
    _, args, _ = given
    found = planned(*args(), split_size=300)
    assert found.files
    for file in found.files:
        assert file.crc32 == zlib.crc32(PARTS[os.path.basename(file.open)])
    assert {piece.crc32 for split in found.spec.splits for piece in split.pieces} == {
        file.crc32 for file in found.files
    }
    assert [note for note in found.notes if "hidden" not in note] == []  # a wildcard leaves the mark out


def test_a_part_that_is_missing_is_refused(given: Any) -> None:
    out, args, whole = given
    (out / "part-00002").unlink()
    if whole:
        with pytest.raises(
            InputError, match=r"part-00002: is missing, and a part of the result of job words-1"
        ):
            planned(*args())
    else:
        assert len(planned(*args()).files) in (2, 3)


@pytest.mark.parametrize("change", [-1, 1, -200])
def test_a_part_of_another_size_is_refused(given: Any, change: int) -> None:
    out, args, _ = given
    data = PARTS["part-00001"]
    (out / "part-00001").write_bytes((data + b"x")[: len(data) + change])
    with pytest.raises(InputError, match=r"part-00001: has \d+ bytes, and \d+ by the _SUCCESS beside it"):
        planned(*args())


def test_a_folder_in_the_place_of_a_part_is_refused(given: Any) -> None:
    out, args, whole = given
    (out / "part-00001").unlink()
    (out / "part-00001").mkdir()
    words = "part-00001: is (missing|a folder), and a part of the result of job words-1 by the _SUCCESS"
    if whole or not any("://" in arg for arg in args()):
        with pytest.raises(InputError, match=words):
            planned(*args())


def test_all_parts_gone_are_missed(tmp_path: Path) -> None:
    out = write(tmp_path / "outs/out")
    (tmp_path / "outs/more.txt").write_text("x\n")
    for name in PARTS:
        (out / name).unlink()
    for arg in (out, out.parent, f"{tmp_path}/outs/o*", f"file://{out}"):
        with pytest.raises(InputError, match="part-00000: is missing"):
            planned(str(arg))


def test_another_file_in_the_folder_is_said(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    (out / "notes.txt").write_text("mine\n")
    (out / "sub").mkdir()
    (out / "sub/more.txt").write_text("mine\n")
    found = planned(str(out))
    assert len(found.files) == 6
    (note,) = found.notes
    assert f"{out}/notes.txt, {out}/sub/more.txt: read too, though the _SUCCESS" in note
    assert planned(str(out / "notes.txt")).notes == ()  # it was named


def test_skipped_records_are_checked_too(tmp_path: Path) -> None:
    out = write(tmp_path / "out", bad={"_bad/m-00001.jsonl": b"{}\n", "_bad/m-00001.records": b"MRQR"})
    found = planned(str(out / "_bad/*.jsonl"))
    assert [file.crc32 for file in found.files] == [zlib.crc32(b"{}\n")]
    assert found.notes == ()
    (out / "_bad/m-00001.jsonl").write_bytes(b"{}")
    with pytest.raises(InputError, match="has 2 bytes, and 3 by"):
        planned(str(out / "_bad/m-00001.jsonl"))


def test_several_outputs_are_each_checked(tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        write(tmp_path / name)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/part-00000").write_text("x\n")
    args = ([str(tmp_path)], [str(tmp_path / "*")], [str(tmp_path / "*day/part*"), str(tmp_path / "plain")])
    for each in args:
        found = planned(*each)
        assert [file.crc32 is None for file in found.files].count(True) <= 1
        assert len(found.files) >= 8
    (tmp_path / "tuesday/part-00003").unlink()
    for each in args:
        with pytest.raises(InputError, match="tuesday/part-00003: is missing"):
            planned(*each)
    assert len(planned(str(tmp_path / "monday")).files) == 4


def test_brackets_in_the_folder_are_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = write(tmp_path / "a[1]*/out")
    monkeypatch.chdir(out.parent)
    assert all(file.crc32 for file in planned("out/part-*").files)
    (out / "part-00001").unlink()
    for arg in ("out", "out/part-*", "o?t", str(out)):
        with pytest.raises(InputError, match="part-00001: is missing"):
            planned(arg)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.write_bytes(b'{"mrq_manifest": 1')
    os.truncate(path, 1 << 40)


NOT_OURS: dict[str, Callable[[Path], object]] = {
    "empty, as Hadoop's": lambda path: path.write_bytes(b""),
    "other JSON": lambda path: path.write_bytes(b'{"timestamp": 1, "filenames": ["part-1"]}'),
    "a list": lambda path: path.write_bytes(b"[1, 2]"),
    "text": lambda path: path.write_bytes(b"done\n"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "huge": _huge,
    "a folder": lambda path: path.mkdir(),
    "a pipe": _pipe,
    "a link in a circle": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "not text": lambda path: path.write_bytes(bytes(range(256))),
}

#: They begin as ours, and can't be read: said, and not used.
NEARLY_OURS = {
    "cut": b'{"mrq_manifest": 1, "job": "wo',
    "deep": b'{"mrq_manifest": 1, "job": ' + b"[" * 100_000,
    "of another version": b'{"mrq_manifest": 99}',
    "empty": b'{"mrq_manifest": 1}',
    "odd": b'{"mrq_manifest": 1, "job": 1, "name": 1, "code": 1, "parameters": {}, "inputs": [], '
    b'"input_files": 1e999, "parts": 3}',
}


@pytest.mark.parametrize("name", NOT_OURS)
@pytest.mark.parametrize("url", ["", "file://"])
def test_a_mark_that_is_not_ours_means_nothing(name: str, url: str, tmp_path: Path) -> None:
    (tmp_path / "part-1").write_text("x\n")
    NOT_OURS[name](tmp_path / "_SUCCESS")
    found = planned(f"{url}{tmp_path}")
    assert [file.crc32 for file in found.files] == [None]
    assert found.notes == ()


@pytest.mark.parametrize("name", NEARLY_OURS)
def test_a_manifest_that_cannot_be_read_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / "part-1").write_text("x\n")
    (tmp_path / "_SUCCESS").write_bytes(NEARLY_OURS[name])
    found = planned(str(tmp_path))
    assert [file.crc32 for file in found.files] == [None]
    (note,) = found.notes
    assert f"{tmp_path}/_SUCCESS is" in note
    assert note.endswith("the files beside it aren't checked")


def test_other_stores_are_asked_by_url(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    base = f"memory://{tmp_path.name}/out"
    for path in out.iterdir():
        with fsspec.open(f"{base}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    for args in ([base], [f"{base}/part-*"], [f"{base}/part-00001"]):
        assert all(file.crc32 for file in planned(*args).files)
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}/out/part-00002")
    for args in ([base], [f"{base}/part-*"]):
        with pytest.raises(InputError, match="part-00002: is missing"):
            planned(*args)
    assert len(planned(f"{base}/part-00001").files) == 1


def test_a_folder_is_looked_into_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        InputFile(path=f"{n}", open=f"{tmp_path}/{n % 3}/{n}", size=1, mtime_ns=0, splittable=True)
        for n in range(900)
    ]
    asked: list[str] = []
    monkeypatch.setattr(finished, "_local", lambda path: asked.append(path))
    assert finished.vouch([], files) == (files, [])
    assert len(asked) == 3


def test_a_copy_beside_it_is_another_output(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(out)
    assert all(file.crc32 for file in planned(str(tmp_path / "copy")).files)
