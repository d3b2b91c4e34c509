"""sort_values with values that can't be ordered, on this machine and on a cluster.

An ordinary run names key, record, file and offset; with skip_bad_records the records with such values are
left out, and nothing else is; a value that is alone with its key needs no order, unless another one lacked
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_rig import engine_of
from ordered_jobs import (
    Blocks,
    Collected,
    Combined,
    First,
    FirstByText,
    Identical,
    Listed,
    Total,
    Whole,
)

import mrq
from mrq.io.output import output_format
from mrq.result import JobFailed

#: By twos in a file: two files, so that most groups are of two maps.
GOOD = [(key, value) for value in (3, None, "x", 1.5, [2, None], [2, "x"]) for key in ("a", "b")]
BAD = [("a", {}), ("b", {"x": 1}), ("a", [1, {}])]


@pytest.fixture(params=["embedded", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))
    with engine_of(request.param, tmp_path) as made:
        yield made


def line(row: tuple[str, Any]) -> str:
    return json.dumps({"k": row[0], "v": row[1]}) + "\n"


def written(folder: Path, name: str, rows: list[tuple[str, Any]], files: int = 4) -> list[Path]:
    """The rows in files; each is a map of its own."""
    found = []
    for at in range(files):
        found.append(folder / f"{name}-{at}.txt")
        found[-1].write_text("".join(map(line, rows[at::files])))
    return found


def settings(job: type[mrq.Job], form: str) -> dict[str, Any]:
    total = {} if job is Total else {"reducers": 3}
    return {"input_format": form, "split_size": "64K", **total}


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def kept(out: Path) -> list[Any]:
    found = []
    for path in (out / "_bad").glob("*.jsonl"):
        found += [json.loads(row) for row in path.read_text().splitlines()]
    return found


@pytest.mark.parametrize("form", ["text", "jsonl"])
@pytest.mark.parametrize("job", [Listed, Collected, Identical, First, FirstByText, Total, Blocks])
def test_only_such_records_are_left_out(engine: Any, job: Any, form: str, tmp_path: Path) -> None:
    good = written(tmp_path, "good", GOOD)
    engine.run(job, good, tmp_path / "good", **settings(job, form))
    mixed = [path.read_text().splitlines(keepends=True) for path in good]
    for at, row in enumerate(BAD):
        mixed[at].insert(at, line(row))
    paths = [tmp_path / f"mixed-{at}.txt" for at in range(len(mixed))]
    for path, lines in zip(paths, mixed, strict=True):
        path.write_text("".join(lines))
    with pytest.raises(JobFailed) as failed:
        engine.run(job, paths, tmp_path / "no", **settings(job, form))
    (where,) = [at for at in range(len(BAD)) if failed.value.errors[-1].path == str(paths[at])]
    key, _ = BAD[where]
    assert f"of the key {key!r}" in str(failed.value) or job in (First,)
    assert failed.value.errors[-1].offset == len("".join(mixed[where][:where]))
    found = engine.run(job, paths, tmp_path / "out", skip_bad_records=3, **settings(job, form))
    assert parts(tmp_path / "out") == parts(tmp_path / "good")
    assert found.summary.bad_records == len(BAD)
    assert found.counters.get("pairs", 2 * len(GOOD)) == 2 * len(GOOD) or job is Total
    assert sorted(row["path"] for row in kept(tmp_path / "out")) == sorted(map(str, paths[: len(BAD)]))


def test_what_is_alone_with_its_key_passes_until_another_lacks_order(engine: Any, tmp_path: Path) -> None:
    alone = [(f"k{n}", value) for n, value in enumerate(({}, [1, {}], 1, None, {"a": []}))]
    for name in ("ones", "twos"):
        paths = written(tmp_path, name, alone)
        for allowed in (0, 9):
            out = tmp_path / f"{name}-{allowed}"
            found = engine.run(Listed, paths, out, skip_bad_records=allowed, **settings(Listed, "text"))
            assert sorted(key for key, _ in found) == ["all", "k0", "k1", "k2", "k3", "k4"]
            assert found.summary.bad_records == 0
    more = written(tmp_path, "more", [*alone, ("k2", 5), ("k3", {})])
    found = engine.run(Listed, more, tmp_path / "more", skip_bad_records=9, **settings(Listed, "text"))
    assert sorted(key for key, _ in found) == ["all", "k2", "k3"]
    assert dict(found)["k2"] == [1, 5]
    assert found.summary.bad_records == 4


def test_a_map_split_names_the_record(engine: Any, tmp_path: Path) -> None:
    paths = written(tmp_path, "in", [*GOOD, ("a", {})])
    with pytest.raises(JobFailed, match="of the key 'a'") as failed:
        engine.run(Whole, paths, tmp_path / "out", **settings(Whole, "text"))
    assert failed.value.errors[-1].offset is not None
    assert failed.value.errors[-1].path == str(paths[len(GOOD) % 4])


def test_what_a_combine_made_is_named_by_its_key(engine: Any, tmp_path: Path) -> None:
    paths = written(tmp_path, "in", [*GOOD, ("a", {})])
    with pytest.raises(JobFailed, match="of the key 'a'") as failed:
        engine.run(Combined, paths, tmp_path / "no", **settings(Combined, "text"))
    assert failed.value.errors[-1].path is None
    found = engine.run(Combined, paths, tmp_path / "out", skip_bad_records=1, **settings(Combined, "text"))
    assert sorted(key for key, _ in found) == ["all", "b"]
    ((_, values),) = [
        pair for path in (tmp_path / "out" / "_bad").glob("*.records")
        for pair in output_format("records").read(str(path))
    ]  # fmt: skip
    assert {} in values
