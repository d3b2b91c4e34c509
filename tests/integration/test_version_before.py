"""What the version before left: finished results are read by the code of today, kept jobs refused by name."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack
import pytest
from left_before import BEFORE, RAN_IN, unpacked

import mrq
from mrq.cli.app import run as mrq_command
from mrq.core import wire
from mrq.io.output import output_format
from mrq.servers.memory import jobfolder

RECORDS: list[tuple[Any, Any]] = [
    ("é", 1), ("k", [1, None, {"a": 2.5}]), ((1, "x"), b"b"), (None, "v"), ("k2", None),
]  # fmt: skip
#: As each format gives them back.
READ = {
    "records": RECORDS,
    "jsonl": [("é", 1), ("k", [1, None, {"a": 2.5}]), ([1, "x"], "b"), (None, "v"), ("k2", None)],
    "lines": [(None, text) for text in ("1", '[1,null,{"a":2.5}]', "b", "v", "")],
    "text": [("é", "1"), ("k", '[1,null,{"a":2.5}]'), ('[1,"x"]', "b"), ("v", None), ("k2", None)],
}
FORMATS = ("text", "lines", "jsonl", "records")
#: The input format that reads each.
INPUTS = {"text": "text", "lines": "text", "jsonl": "jsonl", "records": "records"}
COMPRESSIONS = ("None", "gz", "bz2", "xz", "zst")


class Same(mrq.Job):
    def map(self, key, value):  # type: ignore[no-untyped-def]
        yield key, value


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(BEFORE / "outputs.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "outputs"


#: What kept a job, by the version of its folder.
KEPT = {2: "kept-job.tar.gz", 3: "kept-job-3.tar.gz"}


def kept(tmp_path: Path, version: int) -> Path:
    """The kept job at a path of its own, as if it had run there."""
    root = unpacked(KEPT[version], tmp_path)
    (root / "tmp/mrq-0").rename(root / f"tmp/mrq-{os.getuid()}")
    os.chmod(root / f"tmp/mrq-{os.getuid()}", 0o700)
    for path in [*root.rglob("jobs/*/spec"), *root.rglob(".out.mrq/job")]:
        path.write_bytes(path.read_bytes().replace(RAN_IN.encode(), str(root).encode()))
    for path in root.rglob("jobs/*/spec"):
        spec = wire.unpack(path.read_bytes())
        if spec.pop("crc32", None) is not None:
            path.write_bytes(wire.pack({**spec, "crc32": crc32(wire.pack(spec))}))
    (folder,) = root.glob("tmp/mrq-*/jobs/*")
    for split in jobfolder.read_kept(str(folder)).spec.splits:
        for piece in split.pieces:
            os.utime(piece.open, ns=(piece.mtime_ns, piece.mtime_ns))
    return folder


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_finished_result_is_read(
    form: str,
    compression: str,
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Record by record, by `mrq cat` and `mrq show`, and as an input."""
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    out = outputs / f"{form}-{compression}"
    reader = output_format(form, None if compression == "None" else compression)
    assert list(reader.read(str(out / f"part-00000{reader.suffix}"))) == READ[form]
    assert mrq_command(["show", str(out)]) == 0
    assert b"5 records" in capfdbinary.readouterr().out
    assert mrq_command(["cat", str(out)]) == 0
    printed = capfdbinary.readouterr().out.decode()
    assert printed.count("\n") == 5
    found = [value for _, value in mrq.run(Same, [out], input_format=INPUTS[form], executors=1)]
    if form == "records":
        assert found == [value for _, value in RECORDS]
    elif form == "jsonl":
        assert [(row["key"], row["value"]) for row in found] == READ["jsonl"]
    else:
        assert found == printed.split("\n")[:-1]


@pytest.mark.parametrize("version", KEPT)
def test_a_kept_job_is_refused_by_name_and_cleaned(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is listed as any other, stays as it is for the mrq that kept it, and goes with what it staged."""
    folder = kept(tmp_path, version)
    root, job = folder.parents[3], folder.name
    monkeypatch.setenv("MRQ_TMP", str(root / "tmp"))
    before = {path: path.stat().st_size for path in [*folder.rglob("*"), *root.glob(".out.mrq/**/*")]}
    assert mrq_command(["retry", job]) == 2
    refused = capfd.readouterr().err
    for words in (
        f"job {job}",
        str(folder),
        f"version {version}",
        "go on with that mrq",
        "submit the job anew",
    ):
        assert words in refused
    assert f"mrq clean {job}" in refused
    assert {path: path.stat().st_size for path in before} == before
    for command in (["retry"], ["jobs"]):
        assert mrq_command(command) == 0
        assert job in capfd.readouterr().out
    assert mrq_command(["clean", job]) == 0
    assert "removed 1 job" in capfd.readouterr().err
    assert not folder.exists()
    assert not (root / ".out.mrq").exists()
    assert (root / "in/2.txt").exists()


def test_a_kept_job_of_an_unknown_version_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept(tmp_path, 2)
    monkeypatch.setenv("MRQ_TMP", str(folder.parents[2]))
    spec = msgpack.unpackb((folder / "spec").read_bytes(), strict_map_key=False)
    (folder / "spec").write_bytes(msgpack.packb({**spec, "v": 1}))
    with mrq.local(executors=1) as engine, pytest.raises(mrq.MrqError, match="version") as refused:
        engine.retry(folder.name)
    assert "submit the job anew" in str(refused.value)
