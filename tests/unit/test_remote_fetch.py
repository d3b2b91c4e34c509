"""A result that lies on the cluster comes as its job wrote it, or not at all."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mrq.commit.manifest import Manifest, dump_manifest
from mrq.core.model import StagedFile
from mrq.errors import OperatorError
from mrq.remote.fetch import MANIFEST, fetch

PARTS = [b"a\t1\n" * 1000, b"", b"b\t2\n"]


class Asker:
    """Answers as the leader does, 700 bytes at a time."""

    def __init__(self, parts: list[bytes]) -> None:
        rows = tuple(
            StagedFile(name=f"{n}", final=f"part-{n:05d}", records=1, bytes=len(data), crc32=zlib.crc32(data))
            for n, data in enumerate(PARTS)
        )
        manifest = Manifest(
            job="j-1", name="J", code="", parameters={}, inputs=(), input_files=1, input_bytes=1,
            format="text", compression=None, reducers=3, counters={}, parts=rows,
        )  # fmt: skip
        self.files = {MANIFEST: dump_manifest(manifest), **dict(enumerate(parts))}

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        data = self.files[args["part"]]
        return {"data": data[args["offset"] : args["offset"] + 700], "size": len(data)}


def test_all_parts_come(tmp_path: Path) -> None:
    fetch(Asker(PARTS), "j-1", str(tmp_path / "out"))  # type: ignore[arg-type]
    assert [(tmp_path / f"out/part-{n:05d}").read_bytes() for n in range(3)] == PARTS


@pytest.mark.parametrize("at", [0, 1999, 3999])
def test_a_flipped_byte_is_refused(tmp_path: Path, at: int) -> None:
    data = bytearray(PARTS[0])
    data[at] ^= 1
    with pytest.raises(OperatorError, match="part-00000 of job j-1 came with other bytes than its job wrote"):
        fetch(Asker([bytes(data), *PARTS[1:]]), "j-1", str(tmp_path / "out"))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        OperatorError, match="part-00002 of job j-1 came with 5 bytes where its manifest says 4"
    ):
        fetch(Asker([*PARTS[:2], PARTS[2] + b"x"]), "j-1", str(tmp_path / "out"))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
