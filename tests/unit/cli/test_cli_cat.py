"""`mrq cat` prints what the job wrote, or says which part isn't that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mrq.cli import cat as cat_module
from mrq.cli.app import run
from mrq.commit.manifest import Manifest, dump_manifest
from mrq.core.model import StagedFile
from mrq.io.output import output_format

FORMS = [
    ("text", None),
    ("text", "gz"),
    ("jsonl", "bz2"),
    ("lines", "xz"),
    ("records", None),
    ("records", "zst"),
]


def finished(
    folder: Path, form: str, compression: str | None, values: Sequence[object] = range(500)
) -> list[Path]:
    """A finished output of three parts; their paths."""
    folder.mkdir()
    made = output_format(form, compression)
    rows, paths = [], []
    for part in range(3):
        path = folder / f"part-{part:05d}{made.suffix}"
        writer = made.open(str(path))
        writer.write([f"word {part} {n}" for n in range(len(values))], list(values))
        info = writer.close()
        paths.append(path)
        rows.append(
            StagedFile(
                name=path.name, final=path.name, records=len(values), bytes=info.bytes, crc32=info.crc32
            )
        )
    manifest = Manifest(
        job="j-1", name="J", code="", parameters={}, inputs=(), input_files=1, input_bytes=1, format=form,
        compression=compression, reducers=3, counters={}, parts=tuple(rows),
    )  # fmt: skip
    (folder / "_SUCCESS").write_bytes(dump_manifest(manifest))
    return paths


def printed(capfd: pytest.CaptureFixture[str], folder: Path) -> tuple[int, str, str]:
    code = run(["cat", str(folder)])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_all_of_it_is_printed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, form: str, compression: str | None
) -> None:
    finished(tmp_path / "out", form, compression)
    code, out, err = printed(capfd, tmp_path / "out")
    assert (code, err, out.count("\n")) == (0, "", 1500)


@pytest.mark.parametrize(("form", "compression"), FORMS)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("large", [False, True])
def test_a_flipped_byte_ends_it(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    compression: str | None,
    where: float,
    large: bool,
) -> None:
    path = finished(tmp_path / "out", form, compression)[1]
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    if large:
        monkeypatch.setattr(cat_module, "_CHECKED_FIRST", 0)
    code, out, err = printed(capfd, tmp_path / "out")
    assert code == 1 or (large and code == 2)  # a decoder may have been first
    assert path.name in err
    assert "word 2" not in out
    if not large:
        assert "its bytes aren't those that its job wrote" in err
        assert out.count("\n") == 500  # the part before it, and nothing of it


@pytest.mark.parametrize("where", [10, 64 << 20, -2])
def test_a_flipped_byte_in_a_large_part_is_told_though_it_was_printed(tmp_path: Path, where: int) -> None:
    """Of a real size, and on the other side of a pipe."""
    out = tmp_path / "out"
    finished(out, "text", None, ["x" * (cat_module._CHECKED_FIRST + 1), "end"])
    part = out / "part-00001"
    data = bytearray(part.read_bytes())
    data[where] ^= 1
    part.write_bytes(data)
    ran = subprocess.run([sys.executable, "-m", "mrq", "cat", str(out)], capture_output=True, check=False)
    assert ran.returncode == 1
    assert b"part-00001: its bytes aren't those that its job wrote" in ran.stderr
    assert ran.stdout == (out / "part-00000").read_bytes() + data  # and no part after it


@pytest.mark.parametrize("change", ["gone", "cut", "longer"])
def test_nothing_is_printed_of_what_is_not_whole(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, change: str
) -> None:
    path = finished(tmp_path / "out", "text", None)[2]
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if change == "cut" else path.read_bytes() + b"x")
    code, out, err = printed(capfd, tmp_path / "out")
    assert (code, out) == (2, "")
    assert "part-00002" in err
