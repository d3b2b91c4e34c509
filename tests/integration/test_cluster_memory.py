"""The cluster's master and client, whole, on the memory twins."""

from __future__ import annotations

import os
import shutil
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_jobs import Broken, Chatty, Gated, Paths, Sorted, Upper, Words
from cluster_rig import Cluster, cluster, until
from folders import below

import mrq
from mrq.client import JobFailed
from mrq.core.model import JobState
from mrq.errors import InputError, Interrupted, OperatorError, OutputError, UsageError
from mrq.io.plan import Draft
from mrq.master.requests import RequestHandler
from mrq.planning import Request
from mrq.result import Result

TEXT = "the quick brown fox\njumps over the lazy dog\nthe end\n" * 40


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TMP", str(tmp_path))


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(TEXT)
    return folder


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    folder = tmp_path / "gate"
    folder.mkdir()
    return folder


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


def parts(result: Result) -> list[bytes]:
    return [Path(part).read_bytes() for part in result.parts]


def gated(folder: Path, count: int) -> list[Path]:
    """Inputs of `Gated`, a split each; the last one waits for the gate."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text("wait\n" if number == count - 1 else f"go {number}\n")
    return [folder / f"{number}.txt" for number in range(count)]


def ran(gate: Path) -> list[str]:
    return (gate / "runs").read_text().split() if (gate / "runs").exists() else []


def nothing_staged(folder: Path) -> bool:
    return not [name for name in os.listdir(folder) if name.endswith(".mrq")]


def test_the_bytes_and_counters_are_the_embedded_ones(one: Cluster, books: Path, tmp_path: Path) -> None:
    embedded = mrq.run(Words, [books], tmp_path / "here", reducers=3)
    client = one.client()
    result = client.run(Words, [books], tmp_path / "there", reducers=3)
    assert parts(result) == parts(embedded)
    assert result.counters == embedded.counters
    assert result.summary.records_out == embedded.summary.records_out
    assert result.output == str(tmp_path / "there")
    assert nothing_staged(tmp_path)


def test_a_total_order_samples_first(one: Cluster, books: Path, tmp_path: Path) -> None:
    options = {"reducers": 3, "split_size": 256}
    embedded = mrq.run(Sorted, [books], tmp_path / "here", **options)
    result = one.client().run(Sorted, [books], tmp_path / "there", **options)
    assert parts(result) == parts(embedded)
    keys = [key for key, _ in result]
    assert keys == sorted(keys)
    assert [row.job for row in one.client().ask("jobs")["jobs"]] == [result.job]


def test_a_job_without_reduce_commits_its_maps_parts(one: Cluster, books: Path, tmp_path: Path) -> None:
    result = one.client().run(Upper, [books], tmp_path / "there")
    assert b"".join(parts(result)) == TEXT.upper().encode() * 3


def test_a_result_without_out_is_fetched_and_goes_with_the_client(one: Cluster, books: Path) -> None:
    client = one.client()
    result = client.run(Words, [books])
    assert dict(result)["the"] == 3 * 40 * 3
    assert result.is_private
    client.close()
    with pytest.raises(OutputError, match="removed with its engine"):
        _ = result.parts


def test_records_and_results_travel(one: Cluster, tmp_path: Path) -> None:
    client = one.client()
    first = client.run(Words, records=["a b", "b"], output=tmp_path / "first", output_format="records")
    assert dict(first) == {"a": 1, "b": 2}
    second = client.run(Words, records=["a b", "b"])
    assert dict(second) == {"a": 1, "b": 2}


def test_a_users_error_fails_the_job_by_name_and_can_be_retried(
    one: Cluster, tmp_path: Path, gate: Path
) -> None:
    (tmp_path / "in.txt").write_text("good\nbad\n")
    client = one.client()
    with pytest.raises(JobFailed, match="can't read 'bad'") as failed:
        client.run(Broken(gate=str(gate)), [tmp_path / "in.txt"], tmp_path / "out")
    error = failed.value.errors[-1]
    assert (error.type, error.path, error.offset) == ("ValueError", str(tmp_path / "in.txt"), 5)
    job = failed.value.job
    assert not (tmp_path / "out").exists()
    (row,) = client.ask("status", job=job)["jobs"]
    assert (row.state, len(row.errors)) == (JobState.FAILED, 2)  # the same error at the same record twice
    logs = client.ask("logs", job=job)["logs"]
    assert any("about to fail" in log.tail for log in logs)
    (gate / "mended").touch()
    client.retry(job).result(20)
    assert (tmp_path / "out/part-00000").read_text() == "bad\t1\ngood\t1\n"
    assert client.ask("status", job=job)["jobs"][0].state is JobState.DONE


def test_a_retry_refuses_inputs_that_changed(one: Cluster, tmp_path: Path, gate: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("bad\n")
    client = one.client()
    with pytest.raises(JobFailed) as failed:
        client.run(Broken(gate=str(gate)), [source], tmp_path / "out")
    source.write_text("bad and longer\n")
    with pytest.raises(InputError, match="its input changed"):
        client.retry(failed.value.job)


def test_a_cancelled_job_leaves_nothing(one: Cluster, tmp_path: Path, gate: Path) -> None:
    client = one.client()
    inputs = gated(tmp_path / "in", 2)
    handle = client.start(Gated(gate=str(gate)), inputs, tmp_path / "out", split_size=20_000)
    until(lambda: len(ran(gate)) == 2)
    handle.cancel()
    with pytest.raises(Interrupted, match="was cancelled"):
        handle.result(20)
    assert handle.status() is JobState.CANCELLED
    assert nothing_staged(tmp_path)
    assert not (tmp_path / "out").exists()
    assert client.ask("cancel", job=handle.job, reason="again")["state"] == "cancelled"
    with pytest.raises(UsageError, match="submit it anew"):
        client.retry(handle.job)


def test_two_jobs_side_by_side_and_an_out_for_one_only(tmp_path: Path, gate: Path, books: Path) -> None:
    with cluster(tmp_path, workers=2) as both:
        client = both.client()
        waiting = client.start(
            Gated(gate=str(gate)), gated(tmp_path / "in", 1), tmp_path / "out", split_size=20_000
        )
        until(lambda: ran(gate))
        with pytest.raises(OutputError, match=rf"being written by job {waiting.job}"):
            client.run(Words, [books], tmp_path / "out")
        assert client.run(Words, [books], tmp_path / "other").summary.records_in == 360
        until(lambda: waiting.view() is not None)  # the first news may be on its way
        assert not waiting.done()
        (gate / "open").touch()
        assert waiting.result(20).summary.maps == 1


def test_the_standby_takes_over_and_does_nothing_twice(tmp_path: Path, gate: Path) -> None:
    with Cluster(tmp_path, lease_s=1.0) as made:
        first = made.master()
        made.worker("w0")
        made.master(wait=False)
        client = made.client()
        inputs = gated(tmp_path / "in", 4)
        handle = client.start(Gated(gate=str(gate)), inputs, tmp_path / "out", split_size=20_000, reducers=2)
        until(lambda: len(ran(gate)) == 4)
        first.kill()
        second = made.masters[1][0]
        assert second.leading.wait(10), made.said
        (gate / "open").touch()
        result = handle.result(20)
        assert sorted(ran(gate)) == [f"m-0000{n}" for n in range(4)]
        assert sum(int(value) for _, value in result) == 4


def test_a_sampling_and_what_it_is_for_survive_a_takeover(tmp_path: Path, books: Path) -> None:
    with Cluster(tmp_path, lease_s=1.0) as made:
        first = made.master()
        made.master(wait=False)
        client = made.client()
        handle = client.start(Sorted, [books], tmp_path / "out", reducers=3, split_size=256)
        first.kill()
        assert made.masters[1][0].leading.wait(10), made.said
        made.worker("w0", slots=2)
        keys = [key for key, _ in handle.result(20)]
        assert keys == sorted(keys)
        assert len(keys) == len(TEXT.splitlines()) * 3


def test_a_stopped_master_lets_go_of_the_lease_at_once(tmp_path: Path, books: Path) -> None:
    with Cluster(tmp_path, lease_s=8.0) as made:
        first = made.master()
        made.worker("w0")
        made.master(wait=False)
        first.stop()
        assert made.masters[1][0].leading.wait(3), made.said
        assert made.client().run(Words, [books], tmp_path / "out").summary.maps


def test_what_only_the_client_sees_is_sent(one: Cluster, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "a.txt").write_text("x\ny\n")
    (here / "b.txt").write_text("z\n")
    client = one.client(paths=((str(here), str(there)),))
    result = client.run(Paths, [here / "*.txt"], here / "out")
    assert (there / "out/part-00000").read_text() == f"{here}/a.txt\t2\n{here}/b.txt\t1\n"
    assert result.output == str(here / "out")


def test_users_read_their_own_paths(one: Cluster, tmp_path: Path, gate: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "in", there / "in"):
        folder.mkdir(parents=True)
    (there / "in/a.txt").write_text("x\n")
    client = one.client(paths=((str(here), str(there)),))
    with pytest.raises(InputError) as refused:
        client.run(Words, [here / "in"], here / "in/out")
    told = f"the output {here}/in/out lies inside the input directory {here}/in, and would"
    assert str(refused.value).startswith(told)
    (there / "file").touch()
    with pytest.raises(OutputError) as refused:
        client.run(Words, [here / "in"], here / "file/out")
    assert f"{here}/file isn't a directory" in str(refused.value)
    assert str(there) not in str(refused.value)
    (there / "bad.txt").write_text("bad\n")
    with pytest.raises(JobFailed):
        client.run(Broken(gate=str(gate)), [here / "bad.txt"], here / "out")
    one.said.clear()
    client.run(Words, [here / "in"], here / "out")
    assert [said for said in one.said if said.startswith(f"note: took over {here}/.out.mrq from job ")]


def test_a_job_that_failed_by_its_output_names_it_as_it_is_here(
    one: Cluster, tmp_path: Path, gate: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    client = one.client(paths=((str(here), str(there)),))
    handle = client.start(Gated(gate=str(gate)), gated(tmp_path / "in", 1), here / "out", split_size=20_000)
    until(lambda: ran(gate))
    shutil.rmtree(there / ".out.mrq")
    (gate / "open").touch()
    with pytest.raises(JobFailed) as failed:
        handle.result(20)
    assert f"OutputError: {here}/.out.mrq isn't seen on " in str(failed.value)
    assert failed.value.errors[-1].message.startswith(f"{here}/.out.mrq isn't seen on ")
    assert f"OutputError: {here}/.out.mrq isn't seen" in client.ask("status", job=handle.job)["jobs"][0].error


def test_a_path_that_nobody_sees_is_refused_with_what_is_seen(one: Cluster, tmp_path: Path) -> None:
    (tmp_path / "near.txt").touch()
    with pytest.raises(InputError, match=r"doesn't see .*far\.txt; .* with .*near\.txt"):
        one.client().run(Words, [tmp_path / "far.txt"], tmp_path / "out")
    big = tmp_path / "only-here"
    big.mkdir()
    (big / "big.txt").write_bytes(b"x" * (2 << 20))
    with pytest.raises(UsageError, match="blob_bytes_max"):
        one.client(paths=((str(big), str(tmp_path / "nowhere")),)).run(Words, [big], tmp_path / "out")


def test_standard_input_is_sent(one: Cluster, tmp_path: Path) -> None:
    from mrq.io.inputs import spool

    client = one.client()
    (tmp_path / "typed").write_text("x y x\n")
    with (tmp_path / "typed").open("rb") as stream:
        stdin = spool(stream, client.private_folder())
    draft = client.draft(Request(ref=Words, inputs=["-"], output=str(tmp_path / "out"), stdin=stdin))
    result = client.start_draft(draft).result(20)
    assert (tmp_path / "out/part-00000").read_text() == "x\t2\ny\t1\n"
    assert result.summary.records_in == 1


def left(one: Cluster, folder: Path) -> list[str]:
    """What is on the disk beside the workers' own, in the store, and in its blobs."""
    mine = [str(path) for path in below(folder) if "tmp" not in path.relative_to(folder).parts]
    return sorted(mine) + one.servers.store.jobs() + sorted(one.servers.blobs._kept)


def test_a_dry_run_plans_what_the_submit_would_and_leaves_nothing(one: Cluster, tmp_path: Path) -> None:
    here, there, only = tmp_path / "here", tmp_path / "there", tmp_path / "only-here"
    for folder in (here, there, only):
        folder.mkdir()
    (there / "a.txt").write_text("x\ny\n" * 100)
    (only / "b.txt").write_text("z\n" * 50)
    (only / "c.txt.gz").write_bytes(b"packed" * 90)
    paths = ((str(here), str(there)), (str(only), "/nowhere"))
    client = one.client(paths=paths)
    inputs = [str(here / "*.txt"), str(only), str(only / "b.txt")]
    out = str(here / "far/out")
    request = Request(ref=Words, inputs=inputs, output=out, overrides={"split_size": 100, "reducers": 3})
    draft = client.draft(request)
    before = left(one, tmp_path)
    plan, slots = client.plan_draft(draft)
    assert left(one, tmp_path) == before
    assert client.ask("jobs")["jobs"] == []
    assert slots == 1
    found = [(file.path, file.size, file.splittable) for file in plan.files]
    assert found == [
        (str(here / "a.txt"), 400, True),
        (str(only / "b.txt"), 100, True),
        (str(only / "c.txt.gz"), 540, False),
    ]
    assert plan.notes == (f"{only}/c.txt.gz is read as one split: it can't be cut",)
    assert (plan.spec.output_open, plan.spec.reducers) == (out, 3)
    assert [s.length for s in plan.spec.splits] == [100, 100, 100, 100, 100, 540]

    (only / "c.txt.gz").unlink()
    plan, _ = client.plan_draft(client.draft(request))
    done = client.run(Words, inputs, out, split_size=100, reducers=3)
    assert done.summary.maps == len(plan.spec.splits)
    assert done.summary.bytes_in == sum(file.size for file in plan.files)


def test_a_dry_run_is_refused_as_the_submit_is(one: Cluster, books: Path, tmp_path: Path) -> None:
    client = one.client(paths=((str(tmp_path / "mapped"), str(tmp_path / "nowhere")),))
    big = tmp_path / "mapped"
    big.mkdir()
    (big / "big.txt").write_bytes(b"x" * (2 << 20))
    (tmp_path / "file").touch()
    overlaid = {"version": "0.0.1"}
    for given, out, change in (
        (tmp_path / "far.txt", "out", {}),
        (big, "out", {}),
        (books, "books", {}),
        (books, "books/in/it", {}),
        (books / "0.txt", "books", {}),
        (books, "file", {}),
        (books, "file/out", {}),
        (books, "out", overlaid),
    ):
        request = Request(ref=Words, inputs=[str(given)], output=str(tmp_path / out))
        draft = replace(client.draft(request), **change)
        told = []
        for what in (client.plan_draft, client.start_draft):
            with pytest.raises(UsageError) as refused:
                what(draft)
            told.append((type(refused.value), str(refused.value)))
        assert told[0] == told[1]
    assert nothing_staged(tmp_path)


def test_a_leader_that_knows_no_dry_run_says_so(
    one: Cluster, books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_as_now = RequestHandler.__init__

    def older(handler: RequestHandler, **more: object) -> None:
        made_as_now(handler, **more)  # type: ignore[arg-type]
        del handler._long["plan"]

    monkeypatch.setattr(RequestHandler, "__init__", older)
    with Cluster(tmp_path) as made:
        made.master()
        client = made.client()
        draft = client.draft(Request(ref=Words, inputs=[str(books)], output=str(tmp_path / "out")))
        with pytest.raises(UsageError, match="the leader knows no 'plan'"):
            client.plan_draft(draft)


def test_a_file_that_two_arguments_name_is_sent_once(one: Cluster, tmp_path: Path) -> None:
    only = tmp_path / "only-here"
    only.mkdir()
    (only / "a.txt").write_text("x\n")
    (only / "link.txt").symlink_to("a.txt")
    client = one.client(paths=((str(only), "/nowhere"),))
    inputs = [only / "a.txt", only, f"{only}/../only-here/*.txt"]
    there = client.run(Words, inputs, tmp_path / "there")
    assert parts(there) == parts(mrq.run(Words, inputs, tmp_path / "here"))


def test_paths_of_the_client_are_what_user_code_sees(one: Cluster, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "a.txt").write_text("x\n")
    client = one.client(paths=((str(tmp_path / "here"), str(there)),))
    result = client.run(Paths, [tmp_path / "here/a.txt"], tmp_path / "here/out")
    assert (there / "out/part-00000").read_text() == f"{tmp_path}/here/a.txt\t1\n"
    assert result.output == str(tmp_path / "here/out")


def test_a_refused_out_is_named_as_it_was_spelled(one: Cluster, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "taken").mkdir(parents=True)
    (there / "taken/x.txt").write_text("x\n")
    client = one.client(paths=((str(tmp_path / "here"), str(there)),))
    inputs = [tmp_path / "here/taken/x.txt"]
    for out, told in (
        ("taken", "isn't a finished result of mrq"),
        ("taken/x.txt/sub", f": {tmp_path}/here/taken/x.txt isn't"),
    ):
        spelled = os.path.relpath(tmp_path / "here" / out)
        with pytest.raises(OutputError) as refused:
            client.run(Words, inputs, spelled)
        assert str(refused.value).startswith(spelled)
        assert told in str(refused.value)


def test_unknown_names_are_answered_with_the_nearest(one: Cluster, books: Path, tmp_path: Path) -> None:
    client = one.client()
    done = client.run(Words, [books], tmp_path / "out")
    with pytest.raises(UsageError, match=rf"did you mean '{done.job}'"):
        client.handle(done.job[:-1] + "x")
    with pytest.raises(UsageError, match="did you mean 'w0'"):
        client.ask("drain", worker="w1")
    with pytest.raises(UsageError, match=r"has no task 'm-99'; it has m-00000 and r-00000"):
        client.ask("logs", job=done.job, task="m-99")


def test_a_version_or_packages_that_do_not_fit_are_refused(tmp_path: Path, books: Path) -> None:
    with Cluster(tmp_path) as made:
        made.master()
        made.worker("w0", about={"packages": {"msgpack": "1.1"}})
        client = made.client()
        until(lambda: client.ask("workers")["workers"])
        draft = client.draft(Request(ref=Words, inputs=[str(books)], output=str(tmp_path / "out")))

        def importing(name: str) -> Draft:
            return replace(draft, spec=replace(draft.spec, packages=((name, (name,)),)))

        with pytest.raises(UsageError, match="install mrq-mapreduce=="):
            client.start_draft(replace(draft, version="0.1.0"))
        with pytest.raises(UsageError, match="numpy: on 0 of 1 workers"):
            client.start_draft(importing("numpy"))
        assert client.start_draft(importing("msgpack")).result(20)


def test_a_worker_that_joins_without_a_jobs_package_takes_nothing_of_it(tmp_path: Path, books: Path) -> None:
    with Cluster(tmp_path) as made:
        made.master()
        made.worker("has", about={"packages": {"msgpack": "1.1"}})
        client = made.client()
        until(lambda: client.ask("workers")["workers"])
        overrides = {"split_size": 100}
        out = str(tmp_path / "out")
        draft = client.draft(Request(ref=Words, inputs=[str(books)], output=out, overrides=overrides))
        needing = replace(draft.spec, packages=(("msgpack", ("msgpack",)),))
        handle = client.start_draft(replace(draft, spec=needing))
        made.worker("lacks", slots=4, about={"packages": {"other": "1"}})
        assert handle.result(30).summary.maps > 5
        done = {row.worker: row.completed for row in client.ask("workers")["workers"]}
        assert done["lacks"] == 0


def test_a_job_waits_for_workers_and_says_so(tmp_path: Path, books: Path) -> None:
    with Cluster(tmp_path) as made:
        made.master()
        client = made.client()
        handle = client.start(Words, [books], tmp_path / "out")
        until(lambda: "note: no workers yet: waiting" in made.said)
        assert client.ask("status", job=handle.job)["jobs"][0].waits_for == "no workers yet: waiting"
        made.worker("w0")
        handle.result(20)


def test_rows_show_what_runs(one: Cluster, tmp_path: Path, gate: Path) -> None:
    client = one.client()
    handle = client.start(
        Gated(gate=str(gate)), gated(tmp_path / "in", 2), tmp_path / "out", split_size=20_000
    )
    until(lambda: len(ran(gate)) == 2)
    until(lambda: [row for row in client.ask("workers")["workers"][0].attempts if row.phase])
    until(lambda: client.ask("workers")["workers"][0].completed == 1)
    (worker,) = client.ask("workers", worker="w0")["workers"]
    assert (worker.health.value, worker.outputs_count, worker.completed) == ("alive", 1, 1)
    assert worker.attempts[0].task == "m-00001"
    assert client.ask("status", job=handle.job)["jobs"][0].tasks == ()
    (row,) = client.ask("status", job=handle.job, tasks=True)["jobs"]
    assert [task.state.value for task in row.tasks] == ["completed", "running", "idle"]
    until(lambda: (view := handle.view()) is not None and view.maps.completed == 1)
    assert client.ask("drain", worker="w0")["health"] == "draining"
    assert client.ask("quarantine", worker="w0")["health"] == "draining", "it leaves all the same"
    assert client.ask("readmit", worker="w0")["worker"] == "w0"
    (gate / "open").touch()
    handle.cancel()
    handle.wait(20)


def test_a_request_sent_twice_is_done_once(one: Cluster, books: Path, tmp_path: Path) -> None:
    client = one.client()
    draft = client.draft(Request(ref=Words, inputs=[str(books)], output=str(tmp_path / "out")))
    first, second = client.start_draft(draft), client.start_draft(draft)
    assert parts(first.result(20)) == parts(second.result(20))
    assert parts(client.handle(draft.spec.job).result(20)) == parts(first.result(0))


def test_many_clients_from_many_threads(one: Cluster, books: Path, tmp_path: Path) -> None:
    client = one.client()
    results: list[Result] = []
    errors: list[str] = []

    def work(n: int) -> None:
        try:
            results.append(client.run(Words, [books], tmp_path / f"out{n}"))
        except BaseException:  # a thread's own end would say less
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors, errors[0]
    assert len({tuple(parts(result)) for result in results}) == 1
    assert len(results) == 4


def test_an_out_that_workers_do_not_see_fails_by_name(one: Cluster, tmp_path: Path, gate: Path) -> None:
    handle = one.client().start(
        Gated(gate=str(gate)), gated(tmp_path / "in", 1), tmp_path / "out", split_size=20_000
    )
    until(lambda: ran(gate))
    shutil.rmtree(tmp_path / ".out.mrq")  # as though the worker had another disk there
    (gate / "open").touch()
    with pytest.raises(JobFailed, match=r"\.out\.mrq isn't seen on .* masters and workers share"):
        handle.result(20)
    assert nothing_staged(tmp_path)


def test_a_shared_root_that_is_none_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x\n")
    blind = f"{tmp_path}/shared"
    with cluster(tmp_path, workers=0, probe=lambda worker, folder, nonce: folder != blind) as made:
        made.worker("w0", address="here:1")
        client = made.client()
        until(lambda: [w.health.value for w in client.ask("workers")["workers"]] == ["alive"])
        with pytest.raises(OperatorError, match=rf"worker w0 doesn't share {blind} .*: set shared_root"):
            client.run(Words, [tmp_path / "in.txt"])
        with pytest.raises(OperatorError, match="inputs that are sent"):
            client.run(Words, None, tmp_path / "out", records=["x"])
        assert not (tmp_path / "out").exists()
        client.run(Words, [tmp_path / "in.txt"], tmp_path / "out")
        assert client.ask("workers")["workers"][0].notes == (f"{blind} isn't shared with the leader",)


def test_a_leader_that_does_not_see_a_jobs_output_says_so(tmp_path: Path, gate: Path) -> None:
    with cluster(tmp_path, workers=0, probe=lambda *asked: True) as made:
        made.worker("w0", address="here:1")
        handle = made.client().start(Gated(gate=str(gate)), gated(tmp_path / "in", 1), tmp_path / "out")
        until(lambda: ran(gate))
        (tmp_path / ".out.mrq").rename(tmp_path / "elsewhere")  # as though this master had another disk there
        made.worker("w1", address="here:2")  # somebody to ask
        until(lambda: [said for said in made.said if "doesn't see" in said])
        told = f"doesn't see {tmp_path}/.out.mrq, where the job's output is written: it can't be committed"
        assert told in next(said for said in made.said if "doesn't see" in said)
        (tmp_path / "elsewhere").rename(tmp_path / ".out.mrq")
        (gate / "open").touch()
        handle.result(20)


def test_logs_of_a_finished_job_are_still_had(one: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x\n")
    client = one.client()
    job = client.run(Chatty, [tmp_path / "in.txt"], tmp_path / "out").job
    (row,) = client.ask("logs", job=job, task="m-00000")["logs"]
    assert (row.worker, row.status) == ("w0", "done")
    assert row.blob or row.missing == "its worker kept it as long as the job ran"


def test_connect_finds_the_cluster_or_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MRQ_CLUSTER", "MRQ_AMQP_URL", "MRQ_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="names no cluster"):
        mrq.connect()
    with pytest.raises(UsageError, match="no profile 'prod'"):
        mrq.connect("prod")
    config = tmp_path / "conf/mrq.toml"
    config.parent.mkdir()
    config.write_text(
        'cluster = "prod"\n[profiles.prod]\namqp_url = "amqp://a/"\nredis_url = "redis://r/0"\n'
    )
    with mrq.connect(str(config)) as found:
        assert found.name == "prod"
    with mrq.connect("redis://r/0", timeout_s=1) as found:
        assert found.name.startswith("redis://r")
