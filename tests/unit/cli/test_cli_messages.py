"""What is said of results and failures."""

import dataclasses
import io
import logging

import pytest
from said import listening

from mrq.cli import failure_text
from mrq.cli.console import Console, printable, shown
from mrq.cli.signals import Stopped
from mrq.cli.summary import counter_lines, summary_lines
from mrq.client import JobFailed, Summary
from mrq.core.info import StageInfo
from mrq.core.job_summary import of_stages
from mrq.core.model import ErrorReport
from mrq.errors import (
    CorruptFileError,
    DiskFullError,
    InputError,
    InternalError,
    Interrupted,
    NoAnswerError,
    OperatorError,
    OutputError,
    UsageError,
)

LOG = logging.getLogger("mrq.cli")


def printed(exc, **more):
    with listening() as said:
        failure_text.print_error(exc, **more)
    return "\n".join([*said, ""])


REPORT = ErrorReport(
    type="ValueError",
    message="invalid literal for int() with base 10: 'x\x1b[31m'",
    frames='File "job.py", line 7, in map\n    yield int(line)\n',
    record="'x'",
    path="books/a.txt",
    offset=1234567,
    log_path="/tmp/mrq-0/jobs/j-1/logs/m-00000.log",
    log_tail="\n".join(f"line {n}" for n in range(30)),
    peak_rss_bytes=3 << 20,
)


def test_a_failed_job_is_told_frames_first_then_record_place_log_and_what_to_do():
    text = printed(JobFailed("map task m-00000 failed", job="j-1", errors=[REPORT]), job="j-1")
    lines = text.splitlines()
    assert lines[0] == "error: map task m-00000 failed"
    order = [
        'File "job.py", line 7, in map',
        "yield int(line)",
        "ValueError: invalid literal",
        "record  'x'",
        "where   books/a.txt at byte 1,234,567",
        "memory  3.0 MiB at most",
        "log     /tmp/mrq-0/jobs/j-1/logs/m-00000.log",
        "| line 20",
        "| line 29",
        "mrq retry j-1",
    ]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert "line 19" not in text
    assert "\x1b" not in text
    assert "Traceback" not in text


def test_nothing_is_said_twice():
    text = printed(JobFailed(f"m-00000 failed once: ValueError: {shown(REPORT.message)}", errors=[REPORT]))
    assert text.count("invalid literal") == 1
    assert "File" in text


def test_a_full_disk_shows_no_code():
    report = ErrorReport(type="DiskFullError", message="/tmp is full", frames='File "disk.py", line 1')
    text = printed(JobFailed("m-00000 found the disk full", errors=[report]))
    assert "/tmp is full" in text
    assert "File" not in text


def test_of_several_failures_the_one_that_decided_is_told():
    first = ErrorReport(type="KeyError", message="'a'")
    text = printed(JobFailed("failed", job="j-1", errors=[first, REPORT]))
    assert "ValueError" in text
    assert "KeyError" not in text
    assert "1 more failed attempt" in text
    assert "retry" not in text


def test_a_remote_jobs_log_is_a_command_and_no_path_of_a_worker():
    text = printed(
        JobFailed("m-00000 failed", job="j-1", errors=[REPORT, REPORT]), job="j-1 --cluster prod", remote=True
    )
    assert "  log     mrq logs j-1 --cluster prod, which ends with" in text
    assert "/tmp/mrq-0" not in text
    assert "  and 1 more failed attempt, shown by mrq logs j-1 --cluster prod" in text


def test_what_was_cancelled_is_not_gone_on_with():
    assert printed(Interrupted("job j-1 was cancelled"), job="j-1") == "error: job j-1 was cancelled\n"


def test_wrong_use_is_one_sentence_without_a_hint():
    assert printed(InputError("a.txt: no such file"), job="j-1") == "error: a.txt: no such file\n"


def test_a_full_disk_names_retry():
    assert "mrq retry j-1" in printed(DiskFullError("/tmp is full"), job="j-1")


def test_our_own_errors_are_called_bugs():
    assert "bug in mrq" in printed(InternalError("delivery 3 was settled twice"))
    with listening() as said:
        try:
            raise ZeroDivisionError("oops")
        except ZeroDivisionError as exc:
            failure_text.print_bug(exc)
    lines = said[0].splitlines()
    assert "bug in mrq" in lines[0]
    assert lines[-1] == "ZeroDivisionError: oops"


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (UsageError("x"), 2),
        (OutputError("x"), 2),
        (JobFailed("x"), 1),
        (DiskFullError("x"), 1),
        (InternalError("x"), 1),
        (RuntimeError("x"), 1),
        (Stopped(2), 130),
        (Stopped(15), 143),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_exit_codes(exc, code):
    assert failure_text.exit_code(exc) == code


def summary(**more):
    values = {
        "records_in": 1200,
        "bytes_in": 5 << 20,
        "records_out": 1,
        "bytes_out": 10,
        "shuffled_records": 1200,
        "shuffled_bytes": 2000,
        "seconds": 12.34,
        "maps": 4,
        "reduces": 2,
        "spills": 3,
        "skew": 1.5,
        "largest_partition": 1,
        "slowest_task": "r-00001",
        "slowest_seconds": 2.0,
        "bad_records": 0,
        "attempts_failed": 0,
    }
    return Summary(**{**values, **more})


def test_the_summary_says_what_the_issue_asks_for():
    text = "\n".join(summary_lines(summary(), output="out", parts=2))
    for words in (
        "done in 12.3 s: 1,200 records (5.0 MiB) in, 1 record (10 B) out",
        "4 maps, 2 reduces; the slowest was r-00001 with 2.00 s",
        "the largest partition is 1.50 times the mean",
        "3 sorted runs written to disk",
        "out (2 parts)",
    ):
        assert words in text


def test_each_of_several_stages_is_told():
    stages = (
        StageInfo(name="map", stage=1, total=4, records_in=1200, records_out=90),
        StageInfo(name="reduce", stage=1, total=2, records_in=90, records_out=30),
        StageInfo(name="map", stage=2, total=1, records_in=30, records_out=1),
    )
    lines = summary_lines(summary(), output="out", parts=2, stages=stages)
    assert "  stage 1 4 maps, 2 reduces; 1,200 records in, 30 out" in lines
    assert "  stage 2 1 map; 30 records in, 1 out" in lines
    assert not any("stage" in line for line in summary_lines(summary(), output="out", parts=2))
    even = summary(largest_partition=None)  # the last stage has no reduce
    assert not any("skew" in line for line in summary_lines(even, output="out", parts=2, stages=stages))


def test_the_numbers_of_several_stages_are_those_of_all():
    stages = (
        StageInfo(name="map", stage=1, total=4, records_in=1200, bytes_in=7, bad_records=2, spills=1),
        StageInfo(
            name="reduce", stage=1, total=2, records_in=90, bytes_in=3, slowest="r1-00001", slowest_s=9.0
        ),
        StageInfo(name="map", stage=2, total=1, records_in=30, spills=2, slowest="m2-00000", slowest_s=1.0),
    )
    found = of_stages(summary(records_in=30, maps=1, reduces=0, records_out=8), stages)
    assert (found.records_in, found.bytes_in, found.records_out) == (1200, 7, 8)
    assert (found.maps, found.reduces, found.spills, found.bad_records) == (5, 2, 3, 2)
    assert (found.shuffled_records, found.shuffled_bytes) == (90, 3)
    assert (found.slowest_task, found.slowest_seconds) == ("r1-00001", 9.0)
    assert of_stages(summary(), (StageInfo(name="map", total=4),)) == summary()


def test_bad_records_are_told_with_their_place():
    text = "\n".join(summary_lines(summary(bad_records=2, attempts_failed=1), output="out", parts=2))
    assert "  retried 1 failed or lost attempt\n" in text
    assert "2 records left out, kept in out/_bad" in text


def test_a_map_only_job_without_spills():
    text = "\n".join(summary_lines(summary(reduces=0, spills=0), output=None, parts=4))
    assert "4 maps, no reduce" in text
    assert "skew" not in text
    assert "result" not in text
    assert "none" in text


def test_counters_are_listed_by_name():
    assert counter_lines({"b": 1, "aaa": 2000}) == ["  aaa  2,000", "  b    1"]


def test_control_characters_and_lone_bytes_are_escaped():
    assert shown("a\x1b[2Jb\udcff\tc") == "a\\x1b[2Jb\\xff\tc"
    assert shown("ünï") == "ünï"


def test_what_an_encoding_lacks_is_escaped():
    assert printable("a→b", "latin-1") == "a\\u2192b"
    assert printable("a→b", None) == "a→b"


class Broken(io.StringIO):
    encoding = "utf-8"

    def write(self, text):
        raise BrokenPipeError


def test_a_broken_standard_error_is_given_up_quietly():
    console = Console(Broken(), environ={})
    with console.listening():
        LOG.info("one")
        LOG.error("two")
    assert not console.terminal.live


def test_quiet_prints_errors_only():
    stream = io.StringIO()
    console = Console(stream, environ={})
    console.show(quiet=True)
    with console.listening():
        LOG.info("one")
        LOG.error("two")
    assert stream.getvalue() == "two\n"


def _report(kind, message="", **more):
    return ErrorReport(type=kind, message=message, **more)


@pytest.mark.parametrize(
    ("report", "helps", "words"),
    [
        (_report("InputError", "in.txt: has changed since it was planned"), False, "submit the job again"),
        (_report("InputError", "a.gz: ends before its stream does"), False, "Mend that input or"),
        (_report("CorruptFileError", "block 3", path="a.records"), False, "Mend that input or"),
        (_report("CorruptFileError", "a run fails its checksum"), True, "go on from what is done"),
        (_report("InputError", "a: can't be read: Permission denied"), True, "Once it can be read"),
        (_report("InputError", "a: reading failed: Input/output error"), True, "Once it can be read"),
        (_report("DataError", "a value of type set can't be carried"), False, "Mend the job's code"),
        (_report("JobError", "self.counters was replaced"), False, "Mend the job's code"),
        (_report("UsageTypeError", "values is a one-pass stream"), False, "Mend the job's code"),
        (_report("JobError", "too many", path="a"), True, "mrq retry j-1 --skip-bad-records N"),
        (_report("ValueError", "x", path="a"), True, "mrq retry j-1 --skip-bad-records N"),
        (
            _report("killed by signal 9 (SIGKILL)"),
            True,
            "or give it other memory: mrq retry j-1 --memory SIZE",
        ),
        (_report("exit code 3"), True, "or give it other memory: mrq retry j-1 --memory SIZE"),
        (_report("no progress for 600 s"), True, "--progress-timeout"),
        (_report("ValueError", "x"), True, "Mend the job's code and submit it again"),
        (_report("DiskFullError", "/tmp is full"), True, "To go on from what is done"),
        (_report("OperatorError", "the worker went"), True, "To go on from what is done"),
        (None, True, "To go on from what is done"),
    ],
)
def test_a_retry_is_advised_only_where_it_can_help(report, helps, words):
    failed = JobFailed("m-00000 failed", job="j-1", errors=[report] if report else [])
    text = printed(failed, job="j-1")
    assert words in text
    assert ("mrq retry j-1" in text) is helps
    assert "retry" not in printed(failed).replace("a retry", "")


def test_a_job_that_isnt_deterministic_isnt_gone_on_with():
    failed = JobFailed("the job is nondeterministic: m-00001 and other maps came out differently", job="j-1")
    assert "Mend the job's code" in printed(failed, job="j-1")
    assert "mrq retry" not in printed(failed, job="j-1")


@pytest.mark.parametrize(
    ("message", "helps"),
    [
        ("blob 12ab has other bytes than its name says: delete the key k, and submit again", False),
        ("spill-00001: a block fails its checksum", True),
    ],
)
def test_the_code_isnt_blamed_for_a_damaged_file(message, helps):
    text = printed(JobFailed("m-00000 failed", errors=[_report("CorruptFileError", message)]), job="j-1")
    assert "Mend the job's code" not in text
    assert ("mrq retry j-1" in text) is helps


def test_a_job_that_nobody_tells_of_isnt_gone_on_with():
    assert "mrq retry" not in printed(NoAnswerError("no master has answered within 30 s"), job="j-1")
    assert "mrq retry j-1" in printed(OperatorError("the disk is gone"), job="j-1")


def test_what_is_damaged_of_a_kept_job_isnt_gone_on_with():
    text = printed(CorruptFileError("job j-1 can't go on: the code kept isn't what was submitted"), job="j-1")
    assert "mrq retry" not in text


def test_bad_records_are_counted_and_not_their_files():
    from mrq.cli.cat import manifest_lines
    from mrq.commit.manifest import Manifest
    from mrq.core.model import StagedFile

    def file(name, records):
        return StagedFile(name=name, final=name, records=records, bytes=9, crc32=1)

    bad = [("_bad/m-00000.jsonl", 3), ("_bad/m-00000.records", 3), ("_bad/r-00001.jsonl", 2)]
    bad += [("_bad/r-00001.records", 2)]
    manifest = Manifest(
        job="j", name="J", code="c", parameters={}, inputs=("in",), input_files=1, input_bytes=1,
        format="text", compression=None, reducers=1, counters={},
        parts=(file("part-00000", 7),), bad=tuple(file(*each) for each in bad),
    )  # fmt: skip
    lines = manifest_lines(manifest)
    assert "parts (1)" in lines
    assert "bad records (5, in 4 files)" in lines
    assert "stages" not in lines
    rows = ({"stage": 1, "name": "map", "total": 4, "records_in": 1200, "records_out": 90},
            {"stage": 1, "name": "reduce", "total": 1, "records_in": 90, "records_out": 3})  # fmt: skip
    lines = manifest_lines(dataclasses.replace(manifest, stages=rows))
    at = lines.index("stages")
    assert lines[at + 1 : at + 3] == [
        "  map 1     4 tasks, 1,200 records in, 90 out",
        "  reduce 1  1 task, 90 records in, 3 out",
    ]
    assert not any(line.startswith("bad") for line in manifest_lines(dataclasses.replace(manifest, bad=())))
