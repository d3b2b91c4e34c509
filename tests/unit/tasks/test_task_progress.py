"""How far a map is, as its agent reads it from the page while one block of records is at hand."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tasks_rig import Rig

import mrq
from mrq.core.model import Split, Status
from mrq.core.refs import Kind
from mrq.io.output import output_format
from mrq.worker import progress_page as pages
from mrq.worker.attempts import _progress

RECORDS = 3000


class Slow(mrq.Job):
    """Looks at the page as an agent would, at every record."""

    def map(self, key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
        self.seen.append(_progress(self.order, tuple(self.task._page)))  # type: ignore[attr-defined]
        yield key, value


class SlowSplit(mrq.Job):
    def map_split(self, records: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        for key, value in records:
            self.seen.append(_progress(self.order, tuple(self.task._page)))  # type: ignore[attr-defined]
            yield key, value


def records_file(folder: Path) -> bytes:
    writer = output_format("records").open(str(folder / "made.records"))
    writer.write([f"k{i:05}" for i in range(RECORDS)], list(range(RECORDS)))
    writer.close()
    return (folder / "made.records").read_bytes()


def inputs(folder: Path, form: str) -> tuple[str, bytes]:
    lines = "".join(f"é line {i:05}\n" for i in range(RECORDS)).encode()
    return {
        "text": ("in.txt", lines),
        "crlf": ("in.txt", lines.replace(b"\n", b"\r\n")),
        "gz": ("in.txt.gz", gzip.compress(lines)),
        "jsonl": ("in.jsonl", b"".join(b"[1%05d]\n" % i for i in range(RECORDS))),
        "records": ("in.records", records_file(folder)),
    }[form]


@pytest.mark.parametrize("job", [Slow, SlowSplit])
@pytest.mark.parametrize("form", ["text", "crlf", "gz", "jsonl", "records"])
def test_a_map_of_one_block_moves_with_its_records(tmp_path: Path, form: str, job: type[mrq.Job]) -> None:
    name, data = inputs(tmp_path, form)
    made = job()
    made.seen = []  # type: ignore[attr-defined]
    rig = Rig(made, tmp_path, settings={"input_format": form if form in ("jsonl", "records") else "text"})
    piece = rig.piece(data, name)
    made.order = rig.order(Kind.MAP, 0, split=Split(index=0, pieces=(piece,)))  # type: ignore[attr-defined]
    outcome = rig.run(made.order)  # type: ignore[attr-defined]
    assert outcome.status is Status.DONE
    seen = made.seen  # type: ignore[attr-defined]
    assert len(seen) == RECORDS
    for before, after in itertools.pairwise(seen):
        assert before.records <= after.records
        assert before.bytes <= after.bytes
        assert before.fraction <= after.fraction
    assert all(abs(each.records - number) <= 2 for number, each in enumerate(seen))
    for share in (0.25, 0.5, 0.75):
        each = seen[int(share * RECORDS)]
        assert each.fraction == pytest.approx(share, abs=0.02)
        assert each.bytes == pytest.approx(share * len(data), rel=0.05)
    assert seen[-1].fraction < 1, "the last record isn't consumed yet"


def test_between_blocks_only_whole_ones_count() -> None:
    position = [0] * pages.FIELDS
    position[pages.RECORDS], position[pages.BYTES] = 10, 100
    position[pages.BLOCK_START], position[pages.BLOCK_SPAN], position[pages.BLOCK_BYTES] = 100, 50, 60
    position[pages.OFFSET] = 150
    assert pages.consumed(position) == (10, 100)
    position[pages.BLOCK_RECORDS] = 6
    assert pages.consumed(position) == (15, 150)
    position[pages.OFFSET] = 10_000  # of another file: read in the middle of a change
    assert pages.consumed(position) == (15, 150)
    position[pages.OFFSET] = -1
    assert pages.consumed(position) == (10, 100)
