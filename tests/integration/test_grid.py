"""Every pair of features, against a plain oracle: settings x methods x built-ins x formats x engines.

`grid_cases` chooses the cases, `grid_jobs` writes their jobs as users would, `grid_oracle` says what must
come out. A failure prints the case, its job and what differs.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import grid_oracle as oracle
import pytest
import zstandard
from cluster_rig import Cluster
from grid_cases import Case, cases, refused, uncovered
from grid_jobs import settings, source, write_inputs, write_module
from process_cluster import process_cluster
from services import Broker, Redis

import mrq
from mrq import planning
from mrq.engine.engine import Engine
from mrq.errors import UsageError
from mrq.io.output import output_format
from mrq.result import Result

#: Less than any flag allows: nearly everything spills.
TINY_BYTES = 24 << 10
#: Jobs of one file: few enough that it is parsed quickly.
MODULE_SIZE = 12
#: Each engine's cases are so many tests, of some seconds each.
SHARES = 5
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


class Runner:
    """Runs cases in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: dict[int, Path] = {}
        self._count = 0

    def failures(self, chosen: list[Case], run: Callable[[Case, str], list[str]]) -> dict[Case, list[str]]:
        """What is wrong with each that isn't right."""
        found = {}
        for case in chosen:
            try:
                wrong = run(case, self.reference(case, chosen))
            except Exception:
                wrong = ["it failed: " + traceback.format_exc()]
            if wrong:
                found[case] = wrong
        return found

    def reference(self, case: Case, among: list[Case]) -> str:
        """`file.py:Class` of the case's job, in a module with some others."""
        if case.number not in self._modules:
            at = among.index(case)
            some = among[at : at + MODULE_SIZE]
            name = f"grid_written_{self._count}"
            self._count += 1
            path = write_module(self.folder / "jobs", name, some)
            self._modules.update(dict.fromkeys([one.number for one in some], path))
        return f"{self._modules[case.number]}:{case.name}"

    def on(self, engine: Engine) -> Callable[[Case, str], list[str]]:
        """Runs a case on an engine; returns what is wrong."""

        def run(case: Case, reference: str) -> list[str]:
            folder = self.folder / f"{case.name}-{self._count}"
            self._count += 1
            inputs = write_inputs(case, folder)
            result = _submitted(engine, case, reference, inputs, folder / "out").result(60)
            return list(_compared(case, inputs, result))

        return run


def _submitted(engine: Engine, case: Case, reference: str, inputs: list[str], out: Path) -> Any:
    """The handle of the case's job; its memory is less than what may be asked for."""
    request = planning.request_of(
        reference,
        inputs,
        out,
        records=None,
        overwrite=False,
        overrides=settings(case) if case.given == "arguments" else {},
        folder="",
    )
    tiny = case.memory == "tiny"
    draft = engine.draft(request)
    spec = replace(draft.spec, memory_bytes=TINY_BYTES) if tiny else draft.spec
    return engine.start_draft(replace(draft, spec=spec))


def _compared(case: Case, inputs: list[str], result: Result) -> Iterator[str]:
    """What differs from what the oracle says."""
    expected = oracle.expect(case, inputs)
    parts = [_records(case, Path(part)) for part in result.parts]
    names = [Path(part).name for part in result.parts]
    form = output_format(case.output, None if case.compression == "none" else case.compression)
    if names != [f"part-{at:05d}{form.suffix}" for at in range(len(parts))]:
        yield f"the parts are named {names}"
    if case.order == "total":
        yield from _compared_ranges(case, expected, parts)
    else:
        wanted = [[pair for group in part for pair in group] for part in expected.parts]
        yield from _compared_parts(case, wanted, parts)
    if dict(result.counters) != dict(expected.counters):
        yield f"counters are {dict(result.counters)}, not {dict(expected.counters)}"
    summary = result.summary
    lost = len(expected.bad) if case.bad == "line" else 0
    if summary.records_in != expected.records_in - lost:
        yield f"{summary.records_in} records in, not {expected.records_in - lost}"
    told = sum(len(group) for part in expected.parts for group in part)
    if summary.records_out != told:
        yield f"{summary.records_out} records out, not {told}"
    if summary.bad_records != len(expected.bad) + expected.bad_groups:
        yield f"{summary.bad_records} bad records, not {len(expected.bad)} and {expected.bad_groups} groups"
    yield from _compared_bad(expected, Path(result.output))


def _records(case: Case, part: Path) -> Any:
    """Pairs of a part of records, else its bytes."""
    if case.output == "records":
        return list(output_format("records").read(str(part)))
    return UNPACK[case.compression](part.read_bytes())


def _compared_parts(case: Case, wanted: list[list[Any]], parts: list[Any]) -> Iterator[str]:
    if len(wanted) != len(parts):
        yield f"there are {len(parts)} parts, not {len(wanted)}"
        return
    for at, (want, part) in enumerate(zip(wanted, parts, strict=True)):
        if case.output != "records":
            want = oracle.written(case.output, want).splitlines(keepends=True)
            part = part.splitlines(keepends=True)
        yield from (f"part {at}, {line}" for line in _different(want, part))


def _compared_ranges(case: Case, expected: oracle.Expected, parts: list[Any]) -> Iterator[str]:
    """One after the other they are all that there is, and no group is cut."""
    if len(parts) != int(case.reducers):
        yield f"there are {len(parts)} parts, not {case.reducers}"
    (groups,) = expected.parts
    flat = [pair for group in groups for pair in group]
    if case.output == "records":
        yield from _different(flat, [pair for part in parts for pair in part])
        ends, size = {0}, 0
        for group in groups:
            size += len(group)
            ends.add(size)
        at = 0
        for part in parts:
            at += len(part)
            if at not in ends:
                yield f"a group is cut after record {at}"
    elif (whole := b"".join(parts)) != (want := oracle.written(case.output, flat)):
        yield from _different(want.splitlines(keepends=True), whole.splitlines(keepends=True))


def _different(want: list[Any], found: list[Any]) -> Iterator[str]:
    """The first few records that differ; types count."""
    if len(want) != len(found):
        yield f"{len(found)} records, not {len(want)}"
    both = zip(want, found, strict=False)
    differing = (f"record {at}: {b!r}, not {a!r}" for at, (a, b) in enumerate(both) if repr(a) != repr(b))
    yield from islice(differing, 3)


def _compared_bad(expected: oracle.Expected, out: Path) -> Iterator[str]:
    kept = []
    for path in sorted((out / "_bad").glob("m-*.records")) if (out / "_bad").exists() else []:
        kept += list(output_format("records").read(str(path)))
    if repr(kept) != repr(expected.bad):
        yield f"_bad has {kept}, not {expected.bad}"


def _tested(case: Case, reference: str) -> list[str]:
    """The case as a test of its user's would run it."""
    path, _, name = reference.rpartition(":")
    folder, stem = str(Path(path).parent), Path(path).stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    job = getattr(importlib.import_module(stem), name)()
    records = []
    for number, file in enumerate(oracle.seeds(case)):
        for _, (_, key, value) in oracle.records_of(case, number, file):
            records.append((f"in-{key}" if case.input == "whole" else key, value))
    reducers = {} if case.reduce == "none" else {"reducers": int(case.reducers)}
    with pytest.MonkeyPatch.context() as patch:
        if case.memory == "tiny":
            patch.setattr(mrq.testing, "_MEMORY", TINY_BYTES)
        found = mrq.testing.run(job, records, **reducers)
    return list(_different(_of_test(case, records), found))


def _of_test(case: Case, records: list[Any]) -> list[Any]:
    """What the oracle says of a test: two maps, all their records in one list."""
    half = max(1, -(-len(records) // 2))
    tasks = [[(0, *record) for record in records[at : at + half]] for at in range(0, len(records), half)]
    expected = oracle.expect(case, [], tasks)
    return [pair for part in expected.parts for group in part for pair in group]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRQ_TMP", str(folder))
        yield Runner(folder)


@pytest.fixture(scope="module")
def local(runner: Runner) -> Iterator[Engine]:
    with mrq.local(executors=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(runner: Runner) -> Iterator[Engine]:
    """Of a master and two workers with real executors, in this process."""
    with pytest.MonkeyPatch.context() as patch, Cluster(runner.folder) as made:
        patch.setattr("mrq.master.submissions._refuse", lambda draft: None)  # of so little memory
        made.master()
        for number in range(2):
            made.worker(f"w{number}")
        yield made.client()


def chosen(engine: str, share: int | None = None) -> list[Case]:
    """The cases of an engine, or a share of them."""
    some = [case for case in cases() if case.engine == engine]
    return some if share is None else some[share::SHARES]


def report(failures: dict[Case, list[str]], count: int) -> None:
    """Fail with each case, how its job reads, and what is wrong with it."""
    assert count > 0
    told = ["\n".join([str(case), source([case]), *wrong]) for case, wrong in failures.items()]
    assert not told, f"{len(told)} of {count} cases:\n\n" + "\n\n".join(told)


def test_every_legal_pair_of_choices_is_in_a_case() -> None:
    assert 200 < len(cases()) < 600
    assert not list(uncovered(cases()))


@pytest.mark.parametrize("share", range(SHARES))
def test_on_one_machine(share: int, runner: Runner, local: Engine) -> None:
    some = chosen("local", share)
    report(runner.failures(some, runner.on(local)), len(some))


def test_inside_a_test(runner: Runner) -> None:
    some = chosen("testing")
    report(runner.failures(some, _tested), len(some))


@pytest.mark.parametrize("share", range(SHARES))
def test_on_a_cluster(share: int, runner: Runner, client: Engine) -> None:
    some = chosen("cluster", share)
    report(runner.failures(some, runner.on(client)), len(some))


def test_on_a_cluster_of_processes(
    runner: Runner, rabbitmq: Broker, redis_server: Redis, tmp_path: Path
) -> None:
    """Over RabbitMQ, Redis and gRPC; each worker has a folder of its own."""
    some = [case for case in chosen("cluster") if case.memory == "plenty"][::6]
    with process_cluster(rabbitmq, redis_server, tmp_path) as made:
        made.master()
        for number in range(2):
            made.worker(f"w{number}")
        client = made.client()
        made.workers_ready(client, 2)
        report(runner.failures(some, runner.on(client)), len(some))


def test_what_cannot_go_together_is_refused_by_name(runner: Runner, local: Engine) -> None:
    """Before anything runs, and in the words of the feature."""
    found = list(refused())
    wrong = []
    for rule, case in found:
        folder = runner.folder / f"refused-{case.name}"
        inputs = write_inputs(case, folder)
        try:
            _submitted(local, case, runner.reference(case, [case]), inputs, folder / "out").result(60)
            wrong.append(f"{case}: it ran")
        except mrq.MrqError as error:
            if not isinstance(error, UsageError) or rule.refusal not in str(error):
                wrong.append(f"{case}: {type(error).__name__}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert Counter(rule.refusal for rule, _ in found).total() > 20
